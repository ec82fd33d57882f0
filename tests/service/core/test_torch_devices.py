"""What PyTorch is asked of its GPUs, on machines that aren't at hand: a module plays its part."""

import os
from pathlib import Path

import pytest

from service.core import torch_devices
from service.core.torch_devices import TorchAnswer, ask_torch, why_no_gpu

TORCH = """
from types import SimpleNamespace
__version__ = "2.15"
version = SimpleNamespace(cuda="13.2")
GPUS = {gpus!r}  # name, and what happens when something is computed there
def ones(n, device):
    if error := GPUS[int(device.removeprefix("cuda:"))][1]:
        raise RuntimeError(error)
    return SimpleNamespace(item=lambda: 1.0)
cuda = SimpleNamespace(
    is_available=lambda: bool(GPUS),
    device_count=lambda: len(GPUS),
    get_device_properties=lambda i: SimpleNamespace(name=GPUS[i][0], total_memory=80),
)
"""


@pytest.mark.parametrize(
    ("gpus", "usable", "refused"),
    [
        ([("H100", ""), ("L4", "")], ["H100", "L4"], []),
        (
            [("H100", ""), ("GTX 980", "CUDA error: no kernel image\nSearch for it")],
            ["H100"],
            ["GTX 980: CUDA error: no kernel image"],
        ),
        (
            [
                ("H100", "CUDA out of memory. Tried to"),
                ("L4", "CUDA error: out of memory\n"),
                ("A", "CUDA error: busy or"),
            ],
            ["H100", "L4", "A"],
            [],
        ),
        ([], [], []),
    ],
    ids=["all", "an old one", "full or busy", "none"],
)
def test_usable_is_where_something_can_be_computed(
    tmp_path: Path, gpus: list[tuple[str, str]], usable: list[str], refused: list[str]
) -> None:
    """A GPU for which there are no kernels is seen but not usable; one whose memory others have just now is."""
    (tmp_path / "torch.py").write_text(TORCH.format(gpus=gpus))
    answer = ask_torch({**os.environ, "PYTHONPATH": str(tmp_path)})
    assert answer == TorchAnswer("2.15", "13.2", [{"name": name, "memory_bytes": 80} for name in usable], refused)


def test_a_torch_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time it has no answer, which is the reason that is given."""
    monkeypatch.setattr(torch_devices, "ASK", "import time; time.sleep(60)")
    monkeypatch.setattr(torch_devices, "ASK_SECONDS", 0.5)
    answer = ask_torch()
    assert answer == "no answer within 0.5 s"
    assert "no answer within 0.5 s" in why_no_gpu(answer)[0]
