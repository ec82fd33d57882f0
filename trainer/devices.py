"""The node's devices, seen without torch, and which of its GPUs are taken."""

import csv
import os
import shutil
import subprocess
import threading
from typing import Any

QUERY = ("--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
MEBIBYTE = 2**20


def cuda_devices() -> list[dict[str, Any]]:
    """The GPUs in the order of their PCI bus: [{"name", "memory_bytes"}]; none where there is no driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    answer = subprocess.run([program, *QUERY], capture_output=True, text=True, check=False)  # noqa: S603  # fixed words
    return parse_gpus(answer.stdout) if answer.returncode == 0 else []


def parse_gpus(answer: str) -> list[dict[str, Any]]:
    """What nvidia-smi answers, a line `name, MiB` a GPU."""
    rows = csv.reader(answer.splitlines(), skipinitialspace=True)
    return [{"name": name, "memory_bytes": int(mebibytes) * MEBIBYTE} for name, mebibytes in rows]


def cpu() -> dict[str, Any]:
    """The cores that this process may use."""
    return {"num_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()}


class DevicePool:
    """Which GPUs of this node have a process. Slots are counted in the database; this says which one a slot is."""

    def __init__(self, num_devices: int) -> None:
        self._lock = threading.Lock()
        self._free = set(range(num_devices))

    def take(self) -> int | None:
        """A free GPU's index, or None while all are taken."""
        with self._lock:
            if not self._free:
                return None
            index = min(self._free)
            self._free.remove(index)
            return index

    def give_back(self, index: int) -> None:
        """Free a GPU whose process is gone."""
        with self._lock:
            self._free.add(index)


def visible_devices(index: int | None) -> dict[str, str]:
    """Environment that shows a process one GPU, or none; the driver numbers them as nvidia-smi does."""
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "" if index is None else str(index)}
