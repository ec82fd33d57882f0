"""Whether kernels can be compiled here: torch.compile and Triton both build their launchers with a C compiler."""

import functools
import shutil

import torch


def compiles_for(device: torch.device) -> bool:
    """Whether compiling pays on the device, a GPU, and a C compiler is there to do it."""
    return device.type == "cuda" and has_c_compiler()


@functools.cache
def has_c_compiler() -> bool:
    """Whether one of those that they look for is on the path."""
    return any(shutil.which(name) for name in ("gcc", "clang", "cc"))
