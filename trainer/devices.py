"""The node's devices, seen without torch, and which of its GPUs are taken.

A worker that was itself started with CUDA_VISIBLE_DEVICES has those GPUs only, by nvidia-smi's index or by UUID.
GPU i below is the i-th of these; without the variable, the i-th of the machine.
"""

import csv
import os
import shutil
import subprocess
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

QUERY = ("--query-gpu=uuid,name,memory.total", "--format=csv,noheader,nounits")
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Gpu:
    """A GPU as the driver names it."""

    uuid: str
    name: str
    memory_bytes: int


def cuda_devices() -> list[dict[str, Any]]:
    """The GPUs of this worker: [{"name", "memory_bytes"}]; none where there is no driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    answer = subprocess.run([program, *QUERY], capture_output=True, text=True, check=False)  # noqa: S603  # fixed words
    if answer.returncode != 0:
        return []
    gpus = parse_gpus(answer.stdout)
    entries = _inherited_entries()
    visible = gpus if entries is None else list(_named(entries, gpus))
    return [{"name": gpu.name, "memory_bytes": gpu.memory_bytes} for gpu in visible]


def parse_gpus(answer: str) -> list[Gpu]:
    """What nvidia-smi answers, a line `UUID, name, MiB` a GPU in the order of their PCI bus."""
    rows = csv.reader(answer.splitlines(), skipinitialspace=True)
    return [Gpu(uuid, name, int(mebibytes) * MEBIBYTE) for uuid, name, mebibytes in rows]


def _inherited_entries() -> list[str] | None:
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if value is None else [entry.strip() for entry in value.split(",")]


def _named(entries: list[str], gpus: list[Gpu]) -> Iterator[Gpu]:
    """The GPUs that the entries name, up to the first that names none, as CUDA reads them."""
    for entry in entries:
        if entry.isdecimal():
            found = gpus[int(entry) :][:1]
        else:
            found = [gpu for gpu in gpus if entry and gpu.uuid.startswith(entry)]
        if len(found) != 1:
            return
        yield found[0]


def cpu() -> dict[str, Any]:
    """The cores that this process may use."""
    return {"num_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()}


class DevicePool:
    """Which GPUs of this node have a process. Slots are counted in the database; this says which one a slot is."""

    def __init__(self, num_devices: int) -> None:
        self._lock = threading.Lock()
        self._free = set(range(num_devices))

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


def visible_devices(indices: Iterable[int]) -> dict[str, str]:
    """Environment that shows a process these GPUs alone; the driver numbers them as nvidia-smi does."""
    entries = _inherited_entries()
    shown = [str(index) if entries is None else entries[index] for index in indices]
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(shown)}
