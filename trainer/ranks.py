"""The processes that train one model together, and all that passes between them.

Legend: W ranks, N images a step, n = N / W of them a rank's own, 2N and 2n their views, D projection dim.

Rank r has images r n .. (r + 1) n - 1 of every batch. With one rank everything here is the identity.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

PATIENT_SECONDS = 600  # until all have arrived (each node first fetches its data), and in `wait_for_all`
COLLECTIVE_SECONDS = 60
CHUNK_BYTES = 64 * 1024 * 1024  # of a checkpoint: each has COLLECTIVE_SECONDS to arrive

# What is said of a lost peer; gloo's errors are plain RuntimeErrors. Seen with torch 2.15: connection closed or
# reset, timed out; in forward and backward passes and DDP's hooks. The others, of NCCL and the store, were not tried.
GONE = re.compile(
    r"connection (closed|reset) by peer|connection refused|broken pipe|failed to recv|remote process exited"
    r"|address already in use",  # the port where they meet is taken: as if the first rank had never come
    re.IGNORECASE,
)
SILENT = re.compile(r"timed out|timeout", re.IGNORECASE)


class PeerLost(Exception):
    """Another rank is lost: it is gone, or (`silent`) it did not answer in time."""

    def __init__(self, reason: str, *, silent: bool) -> None:
        super().__init__(
            f"another rank {'did not answer in time' if silent else 'is gone'}: {' '.join(reason.split())}"
        )
        self.silent = silent


@dataclass(frozen=True)
class Ranks:
    """One of W ranks' view of them all; collective operations are called by all, in the same order."""

    rank: int = 0
    size: int = 1  # W
    local_rank: int = 0  # counted on this rank's node
    control: dist.ProcessGroup | None = None  # what only hosts must know goes here, so no GPU is waited for
    patient: dist.ProcessGroup | None = None  # the same, for what may take one rank minutes longer than another

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that reports, saves and exports."""
        return self.rank == 0

    def device(self, type_: str) -> torch.device:
        """This rank's own device of a type."""
        return torch.device(type_, self.local_rank) if type_ == "cuda" and self.size > 1 else torch.device(type_)

    def own(self, num_images: int) -> slice:
        """Which of N images are this rank's."""
        n = num_images // self.size
        return slice(self.rank * n, (self.rank + 1) * n)

    def own_views(self, num_views: int) -> list[slice]:
        """Which of 2N views, all x1 before all x2, are this rank's: ranges of rows, in order."""
        if self.size == 1:
            return [slice(0, num_views)]
        N = num_views // 2
        own = self.own(N)
        return [own, slice(N + own.start, N + own.stop)]

    def gather(self, values: Tensor) -> Tensor:
        """The values of every rank, of the same shape on each: (...) -> (W, ...). Not differentiable."""
        if self.size == 1:
            return values[None]
        gathered = values.new_empty(self.size * len(values), *values.shape[1:])
        dist.all_gather_into_tensor(gathered, values.contiguous())
        return gathered.view(self.size, *values.shape)

    def gather_views(self, values: Tensor) -> Tensor:
        """Rows of all views from the ranks' own, x1 before x2: (2n, ...) -> (2N, ...). Not differentiable."""
        if self.size == 1:
            return values
        views = self.gather(values.view(2, -1, *values.shape[1:]))  # (W, 2, n, ...)
        return views.transpose(0, 1).flatten(0, 2)  # (2N, ...)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over ranks, in place of the values; the same bits on every rank. Not differentiable."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def any(self, *flags: bool) -> list[bool]:
        """Of each flag, whether it is up on any rank."""
        if self.size == 1:
            return list(flags)
        raised = torch.tensor(flags, dtype=torch.int8)
        dist.all_reduce(raised, dist.ReduceOp.MAX, group=self.control)
        return [bool(flag) for flag in raised]

    def broadcast(self, content: bytes | None) -> bytes | None:
        """What the first rank gives; others give None."""
        if self.size == 1:
            return content
        num_bytes = torch.tensor(-1 if content is None else len(content))
        dist.broadcast(num_bytes, 0, group=self.patient)  # the first reads and verifies it meanwhile
        if num_bytes < 0:
            return None
        buffer = bytearray(int(num_bytes)) if content is None else bytearray(content)
        received = torch.frombuffer(buffer, dtype=torch.uint8)
        for chunk in torch.split(received, CHUNK_BYTES):
            dist.broadcast(chunk, 0, group=self.control)
        return received.numpy().tobytes()

    def wait_for_all(self) -> None:
        """Return when every rank is here: after what may take some of them minutes longer than others."""
        if self.size > 1:
            dist.barrier(group=self.patient)


ALONE = Ranks()


@contextmanager
def joined(device_type: str, collective_seconds: float = COLLECTIVE_SECONDS) -> Iterator[Ranks]:
    """The ranks that torchrun's environment describes, this process among them; without one, it is alone.

    Waits until all have arrived. Within it, what fails because another rank is lost raises PeerLost.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    try:
        yield _join(device_type, timedelta(seconds=collective_seconds))
    except RuntimeError as error:
        silent, gone = SILENT.search(str(error)), GONE.search(str(error))
        if not silent and not gone:
            raise
        raise PeerLost(str(error), silent=not gone) from error
    dist.destroy_process_group()  # not after an error: NCCL would wait for the rank that is lost


def _join(device_type: str, timeout: timedelta) -> Ranks:
    patience = timedelta(seconds=PATIENT_SECONDS)
    store, rank, size = next(dist.rendezvous("env://", timeout=patience))  # type: ignore[attr-defined]  # it is there
    # Should ranks of another run come here by mistake, they are not taken for this one's.
    store = dist.PrefixStore(os.environ.get("TORCHELASTIC_RUN_ID", ""), store)  # type: ignore[attr-defined]  # the same
    store.set(f"arrived/{rank}", "")
    store.wait([f"arrived/{r}" for r in range(size)], patience)
    local_rank = int(os.environ["LOCAL_RANK"])
    if device_type == "cuda":
        torch.cuda.set_device(local_rank)
        # NCCL's watchdog ends the process without a word: twice the time, so that a host waiting in `control` speaks.
        dist.init_process_group("nccl", store=store, rank=rank, world_size=size, timeout=2 * timeout)
    else:
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timeout)
    return Ranks(rank, size, local_rank, _hosts(timeout), _hosts(patience))


def _hosts(timeout: timedelta) -> dist.ProcessGroup:
    """All ranks, once more, for tensors in the hosts' memory."""
    group = dist.new_group(backend="gloo", timeout=timeout)
    assert isinstance(group, dist.ProcessGroup)
    return group
