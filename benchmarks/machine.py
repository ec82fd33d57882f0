"""What a benchmark's figures were measured on."""

import os
import platform
from importlib.metadata import version

import torch


def device_name() -> str:
    """The GPU's name, or the processor's and the number of cores that this process may use."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{_processor()}, {num_cores()} cores"


def num_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python, of PyTorch with its CUDA, and of the packages."""
    return {"python": platform.python_version(), "torch": torch.__version__} | {
        name: version(name) for name in packages
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123  # no file of ours
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
