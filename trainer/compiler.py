"""Whether kernels can be compiled here: torch.compile and Triton both build their launchers with a C compiler."""

import functools
import shutil
import sysconfig
from pathlib import Path

import torch


def compiles_for(device: torch.device) -> bool:
    """Whether compiling pays on the device, a GPU, and what it takes is there."""
    return device.type == "cuda" and has_c_compiler()


@functools.cache
def has_c_compiler() -> bool:
    """Whether one of those that they look for is on the path, and Python's headers are installed."""
    headers = Path(sysconfig.get_paths()["include"], "Python.h")
    return headers.is_file() and any(shutil.which(name) for name in ("gcc", "clang"))
