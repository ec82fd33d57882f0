"""The node's devices, seen without importing torch, and which of its GPUs are taken.

A worker that was itself started with CUDA_VISIBLE_DEVICES has those GPUs only, by nvidia-smi's index, by UUID, or parts
of one by their MIG's UUID. Of these, or of all that the machine has, it offers the ones that PyTorch can use.
"""

import csv
import os
import shutil
import subprocess
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import structlog

from service.core.torch_devices import TorchAnswer, ask_torch, why_no_gpu

QUERY = ("--query-gpu=uuid,name", "--format=csv,noheader")  # not the memory: of some GPUs the driver doesn't tell it
PART = "MIG-"  # how the UUID of a part of a GPU begins; nvidia-smi lists whole ones

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class Gpu:
    """A GPU as the driver names it."""

    uuid: str
    name: str


@dataclass(frozen=True)
class CudaDevice:
    """A GPU, or a part of one, that PyTorch can use."""

    entry: str  # its name in CUDA_VISIBLE_DEVICES
    name: str
    memory_bytes: int


def cuda_devices() -> list[CudaDevice]:
    """The GPUs of this worker that PyTorch can use; the log says which others there are, and why not.

    Each is shown to a PyTorch of its own, as it will be to a job's process. Where the driver lists none, nobody is
    asked, which takes seconds.
    """
    listed = list(_listed())
    if not listed:
        return []
    with ThreadPoolExecutor(len(listed)) as threads:
        answers = list(threads.map(_ask_about, [entry for entry, _ in listed]))
    found, unused = [], dict[tuple[str, str], list[str]]()
    for (entry, name), answer in zip(listed, answers, strict=True):
        if isinstance(answer, TorchAnswer) and answer.devices:
            found.append(CudaDevice(entry, **answer.devices[0]))
        else:
            unused.setdefault(why_no_gpu(answer), []).append(f"{entry}: {name}")
    for (reason, advice), gpus in unused.items():
        logger.warning("GPUs are not used", gpus=gpus, reason=reason, advice=f"{advice}; then start the worker again")
    return found


def _ask_about(entry: str) -> TorchAnswer | str:
    return ask_torch({**os.environ, **visible_devices([entry])})


def _listed() -> Iterator[tuple[str, str]]:
    """The worker's GPUs: their names in CUDA_VISIBLE_DEVICES and the driver's; none where there is no driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return
    answer = subprocess.run([program, *QUERY], capture_output=True, text=True, check=False)  # noqa: S603  # fixed words
    gpus = parse_gpus(answer.stdout) if answer.returncode == 0 else []
    inherited = os.environ.get("CUDA_VISIBLE_DEVICES")
    if inherited is None or not gpus:
        yield from ((str(index), gpu.name) for index, gpu in enumerate(gpus))
    else:
        yield from _named([entry.strip() for entry in inherited.split(",")], gpus)


def parse_gpus(answer: str) -> list[Gpu]:
    """What nvidia-smi answers, a line `UUID, name` a GPU in the order of their PCI bus."""
    return [Gpu(uuid, name) for uuid, name in csv.reader(answer.splitlines(), skipinitialspace=True)]


def _named(entries: list[str], gpus: list[Gpu]) -> Iterator[tuple[str, str]]:
    """The entries and the GPUs that they name, up to the first that names none, as CUDA reads them."""
    for entry in entries:
        if entry.startswith(PART):
            found = [Gpu(entry, "a part of a GPU")]
        elif entry.isdecimal():
            found = gpus[int(entry) :][:1]
        else:
            found = [gpu for gpu in gpus if entry and gpu.uuid.startswith(entry)]
        if len(found) != 1:
            return
        yield entry, found[0].name


def cpu() -> dict[str, Any]:
    """The cores that this process may use."""
    return {"num_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()}


class DevicePool:
    """Which GPUs of this node have a process. Slots are counted in the database; this says which one a slot is."""

    def __init__(self, devices: Sequence[CudaDevice]) -> None:
        self.devices = devices
        self._lock = threading.Lock()
        self._free = set(range(len(devices)))

    def take(self, number: int) -> list[int] | None:
        """The indices of so many free GPUs, or None while there are fewer."""
        with self._lock:
            if len(self._free) < number:
                return None
            indices = sorted(self._free)[:number]
            self._free.difference_update(indices)
            return indices

    def give_back(self, indices: Iterable[int]) -> None:
        """Free GPUs whose processes are gone."""
        with self._lock:
            self._free.update(indices)

    def environment(self, indices: Iterable[int]) -> dict[str, str]:
        """What shows a process these GPUs alone."""
        return visible_devices(self.devices[index].entry for index in indices)


def visible_devices(entries: Iterable[str]) -> dict[str, str]:
    """Environment that shows a process these GPUs alone; the driver numbers them as nvidia-smi does."""
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(entries)}
