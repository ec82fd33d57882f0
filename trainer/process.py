"""The process of a job: started to die with the worker, in a session of its own, killable with all its children."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from service.core import tracing
from service.core.child import child_command
from service.core.settings import Settings
from service.core.tables import Job, Placement
from trainer.devices import cpu
from trainer.memory import KEEP_MEMORY
from trainer.network import interface_of, own_address
from trainer.run import RunFolder

PYTHON = (sys.executable, "-P", "-m")  # -P: a folder `trainer` in the current directory is not this package
COMMANDS: Mapping[str, Sequence[str]] = {
    "pretrain": (*PYTHON, "trainer"),
    "finetune": (*PYTHON, "trainer"),
    "linear_probe": (*PYTHON, "trainer"),
    "knn_probe": (*PYTHON, "trainer"),
    "layer_sweep": (*PYTHON, "trainer"),
    "transform_probe": (*PYTHON, "trainer"),
    "export": (*PYTHON, "trainer"),
    "ingest": (*PYTHON, "trainer.ingest"),
    "index": (*PYTHON, "trainer.index"),
    "map": (*PYTHON, "trainer.map"),
}


def command_line(command: Sequence[str], job: Job, placement: Placement, run: RunFolder) -> list[str]:
    """The argument vector for a job on a node; an index job works on the database and is told who it is there."""
    identity = ["--job", job.id, "--attempt", str(job.attempt), "--model", str(job.model_id)]
    alone = [*command, str(run.path), *(identity if job.kind == "index" else ())]
    world_size = placement.num_nodes * placement.num_slots
    if world_size == 1:
        return alone
    options = {
        "--run-id": f"{job.id}/{job.attempt}",
        "--first-rank": placement.node_rank * placement.num_slots,
        "--processes": placement.num_slots,
        "--world-size": world_size,
        "--address": placement.rendezvous_address,
        "--port": placement.rendezvous_port,
    }
    words = [str(word) for option in options.items() for word in option]
    return [*PYTHON, "trainer.launch", str(run.path), *words, "--", *alone]


def environment(settings: Settings, kind: str, placement: Placement, num_gpus: int) -> dict[str, str]:
    """The worker's environment, on a node of so many GPUs; only an index job gets its settings, and so the database."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("SIMCLR_")} | tracing.handed_on()
    if kind == "index":
        values = settings.model_dump(mode="json").items()
        texts = {name: json.dumps(value) if isinstance(value, dict) else str(value) for name, value in values}
        return own | {f"SIMCLR_{name.upper()}": text for name, text in texts.items()}
    if kind == "map":
        return own | {"OMP_NUM_THREADS": "1"}  # the same map every time, and training beside it keeps its cores
    own |= _share_of_cores(settings, placement, num_gpus) | _network(settings, placement)
    return KEEP_MEMORY | own if kind in {"pretrain", "finetune"} else own


def _share_of_cores(settings: Settings, placement: Placement, num_gpus: int) -> dict[str, str]:
    """Threads that don't get in each other's way, whatever jobs they are of: each of the node's slots has its part."""
    num_slots = num_gpus if placement.slot == "cuda" else settings.num_cpu_slots
    sharers = max(num_slots, placement.num_slots)
    if placement.slot == "light" or sharers == 1:
        return {}
    return {"OMP_NUM_THREADS": str(max(1, cpu()["num_cores"] // sharers))}


def _network(settings: Settings, placement: Placement) -> dict[str, str]:
    """Where processes of several nodes meet."""
    if placement.num_nodes == 1:
        return {}
    environ = {"RES_OPTIONS": "timeout:1 attempts:1"}  # a name server that is away costs 10 s a connection
    if interface := interface_of(own_address(settings)):
        environ |= {"GLOO_SOCKET_IFNAME": interface, "NCCL_SOCKET_IFNAME": f"={interface}"}  # =: not as a prefix
    return environ


def num_oom_kills() -> int:
    """How often the kernel has killed a process for want of memory since it booted."""
    with suppress(FileNotFoundError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return 0


class JobProcess:
    """A running process; its output goes to the run folder's log."""

    def __init__(self, command: Sequence[str], run: RunFolder, environ: Mapping[str, str]) -> None:
        self._num_oom_kills = num_oom_kills()
        with run.log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603  # the command is one of ours
                child_command(command, on_parent_death=signal.SIGKILL, nice=True),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(environ),
                start_new_session=True,
            )

    def wait(self, seconds: float) -> int | None:
        """The exit code, negative for a signal, or None if it still runs after that time."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def interrupt(self) -> None:
        """Ask it to checkpoint and to end."""
        self._process.terminate()

    def kill(self) -> None:
        """Kill it and its children, and wait until it is gone; also right when it has ended, for its children."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def was_out_of_memory(self) -> bool:
        """Whether the kernel has killed a process for want of memory in its time."""
        return num_oom_kills() > self._num_oom_kills
