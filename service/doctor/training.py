"""PyTorch and its devices, asked in a process of their own: the service never imports torch."""

import importlib.util
import json
import shutil
import subprocess
import sys
from typing import Any

from service.doctor.finding import Finding, failed, ok, warning

ASK_SECONDS = 120  # the first import of torch reads gigabytes
ASK = """
import json, torch
seen = torch.cuda.is_available()
print(json.dumps({
    "version": torch.__version__,
    "built_for": torch.version.cuda,
    "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if seen else [],
}))
"""


def check_training() -> list[Finding]:
    """PyTorch, and whether it trains on a GPU; without it images can be served but nothing trained."""
    if importlib.util.find_spec("torch") is None:
        advice = "pip install 'simclr-service[train]'; a machine that only serves needs none"
        return [failed("PyTorch", "not installed", advice)]
    found = _ask_torch()
    if isinstance(found, str):
        return [
            failed("PyTorch", f"can't be imported: {found}", "install it again: pip install --force-reinstall torch")
        ]
    return [ok("PyTorch", found["version"]), _check_cuda(found)]


def _ask_torch() -> dict[str, Any] | str:
    """What torch says of itself, or the last line of its failure."""
    command = [sys.executable, "-P", "-W", "ignore", "-c", ASK]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ASK_SECONDS)  # noqa: S603  # ours
    except subprocess.TimeoutExpired:
        return f"no answer within {ASK_SECONDS} s"
    if done.returncode:
        return (done.stderr.strip() or f"it ended with {done.returncode}").splitlines()[-1]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _check_cuda(found: dict[str, Any]) -> Finding:
    """Visible, or the reason why not."""
    if found["devices"]:
        return ok("GPU", ", ".join(found["devices"]))
    cpu = "training runs on the CPU, which is enough for small images"
    if found["built_for"] is None:
        return warning(
            "GPU", f"this PyTorch is built without CUDA; {cpu}", "for a GPU install a build of PyTorch with CUDA"
        )
    if shutil.which("nvidia-smi") is None:
        return warning("GPU", f"no NVIDIA driver is installed; {cpu}", "nothing, unless this machine has a GPU")
    advice = f"look at `nvidia-smi` and CUDA_VISIBLE_DEVICES; the driver has to suit CUDA {found['built_for']}"
    return warning("GPU", f"there is a driver, but PyTorch sees no device; {cpu}", advice)
