"""PyTorch, and whether it trains on a GPU."""

import importlib.util
import shutil

from service.core.torch_devices import TorchAnswer, ask_torch, why_no_gpu
from service.doctor.finding import Finding, failed, ok, warning


def check_training() -> list[Finding]:
    """PyTorch, and whether it trains on a GPU; without it images can be served but nothing trained."""
    if importlib.util.find_spec("torch") is None:
        advice = "pip install 'simclr-service[train]'; a machine that only serves needs none"
        return [failed("PyTorch", "not installed", advice)]
    answer = ask_torch()
    if isinstance(answer, str):
        return [failed("PyTorch", f"can't be imported: {answer}", why_no_gpu(answer)[1])]
    return [ok("PyTorch", answer.version), _check_cuda(answer)]


def _check_cuda(answer: TorchAnswer) -> Finding:
    """Usable, or the reason why not."""
    names = ", ".join(device["name"] for device in answer.devices)
    if names and not answer.refused:
        return ok("GPU", names)
    reason, advice = why_no_gpu(answer)
    if names:
        return warning("GPU", f"{names}; {reason}, so nothing is trained there", advice)
    cpu = "training runs on the CPU, which is enough for small images"
    if answer.built_for is not None and shutil.which("nvidia-smi") is None:
        return warning("GPU", f"no NVIDIA driver is installed; {cpu}", "nothing, unless this machine has a GPU")
    return warning("GPU", f"{reason}; {cpu}", advice)
