"""PyTorch and the GPUs that it can use, asked in a process of their own: service and worker never import torch.

The driver lists GPUs that PyTorch may not be able to use: it is built without CUDA, or for another driver or GPU.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ASK_SECONDS = 120  # the first import of torch reads gigabytes
ASK = """
import json, torch
devices, refused = [], []
for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
    device = torch.cuda.get_device_properties(i)
    try:
        torch.ones(1, device=f"cuda:{i}").item()
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        if "out of memory" not in reason and "busy" not in reason:  # others have it just now
            refused.append(f"{device.name}: {reason}")
            continue
    devices.append({"name": device.name, "memory_bytes": device.total_memory})
print(json.dumps({
    "version": torch.__version__, "built_for": torch.version.cuda, "devices": devices, "refused": refused
}))
"""


@dataclass(frozen=True)
class TorchAnswer:
    """What PyTorch says of itself."""

    version: str
    built_for: str | None  # the version of CUDA
    devices: list[dict[str, Any]]  # {"name", "memory_bytes"}: the GPUs that it can use
    refused: list[str]  # those that it sees and can't use, and why


def ask_torch(environ: Mapping[str, str] | None = None) -> TorchAnswer | str:
    """What torch says in an environment (this process's, if none is given), or the last line of its failure."""
    command = [sys.executable, "-P", "-W", "ignore", "-c", ASK]
    try:
        done = subprocess.run(  # noqa: S603  # the command is ours
            command, capture_output=True, text=True, check=False, timeout=ASK_SECONDS, env=environ
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {ASK_SECONDS} s"
    if done.returncode:
        return (done.stderr.strip() or f"it ended with {done.returncode}").splitlines()[-1]
    return TorchAnswer(**json.loads(done.stdout.splitlines()[-1]))


def why_no_gpu(answer: TorchAnswer | str) -> tuple[str, str]:
    """Why PyTorch can't use a GPU that the driver lists, and what to do."""
    if isinstance(answer, str):
        advice = "if `python -c 'import torch'` fails, too, install it again: pip install --force-reinstall torch"
        return f"PyTorch says nothing of it: {answer}", advice
    if answer.built_for is None:
        return "this PyTorch is built without CUDA", "for a GPU install a build of PyTorch with CUDA"
    if answer.refused:
        reason = f"PyTorch can't use {'; '.join(answer.refused)}"
        return reason, f"install a build of PyTorch for this GPU; PyTorch {answer.version} may be too new or too old"
    advice = (
        f"look at `nvidia-smi` and CUDA_VISIBLE_DEVICES; the driver has to suit CUDA {answer.built_for}: update it,"
        " or install a build of PyTorch for an older CUDA"
    )
    return "there is a driver, but PyTorch sees no device", advice
