"""GPUs are counted without importing torch: those that torch can use, and each has one process at a time."""

from pathlib import Path

import pytest
import structlog

from service.core import torch_devices
from trainer.devices import CudaDevice, DevicePool, Gpu, cuda_devices, parse_gpus, visible_devices

# As nvidia-smi does, but only what is asked for; of a GPU that shares the host's memory it doesn't know how much.
DRIVER = """#!/bin/sh
case "$1" in
*memory*) printf 'GPU-a1, H200, [N/A]\\nGPU-a2, A100, [N/A]\\nGPU-b1, L4, [N/A]\\n' ;;
*) printf 'GPU-a1, H200\\nGPU-a2, A100\\nGPU-b1, L4\\n' ;;
esac
"""
# A torch that sees what it is shown, and can't use GPU 1.
TORCH = """
import json, os, sys
print("imported", file=open({log!r}, "a"))
shown = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
devices = [dict(name="torch's " + entry, memory_bytes=7) for entry in shown if entry not in {unusable!r}]
print(json.dumps(dict(version="2.15", built_for={built_for!r}, devices=devices, refused={refused!r})))
"""


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of three GPUs."""
    program = tmp_path / "nvidia-smi"
    program.write_text(DRIVER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A torch that can use every GPU; a line for each time that it was started."""
    return torch_with(monkeypatch, tmp_path)


def torch_with(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    *unusable: str,
    built_for: str | None = "13.2",
    refused: tuple[str, ...] = (),
) -> Path:
    log = folder / "starts"
    log.touch()
    program = TORCH.format(log=str(log), unusable=unusable, built_for=built_for, refused=refused)
    monkeypatch.setattr(torch_devices, "ASK", program)
    return log


def test_the_driver_names_the_gpus() -> None:
    """A line a GPU."""
    answer = "GPU-1, NVIDIA H200\nGPU-2, NVIDIA A100-SXM4-40GB\n"
    assert parse_gpus(answer) == [Gpu("GPU-1", "NVIDIA H200"), Gpu("GPU-2", "NVIDIA A100-SXM4-40GB")]
    assert parse_gpus("") == []


def pool_of(number: int) -> DevicePool:
    """A pool of GPUs that CUDA_VISIBLE_DEVICES calls 0, 1, ..."""
    return DevicePool([CudaDevice(str(index), "H200", 1) for index in range(number)])


def test_a_gpu_is_taken_once() -> None:
    """Two takers get two GPUs, a third none until one is given back."""
    pool = pool_of(2)
    assert [pool.take(1), pool.take(1), pool.take(1)] == [[0], [1], None]
    pool.give_back([0])
    assert pool.take(1) == [0]


def test_a_job_takes_all_its_gpus_or_none() -> None:
    """Three of two free GPUs aren't taken, and none is lost by asking; a job on the CPU takes none."""
    pool = pool_of(3)
    assert pool.take(1) == [0]
    assert [pool.take(3), pool.take(2), pool.take(0)] == [None, [1, 2], []]


@pytest.mark.usefixtures("driver", "starts")
@pytest.mark.parametrize(
    ("inherited", "entries"),
    [
        (None, ["0", "1", "2"]),
        ("", []),
        ("2,0", ["2", "0"]),
        ("GPU-b1, 1", ["GPU-b1", "1"]),
        ("GPU-b", ["GPU-b"]),
        ("1,GPU-a,0", ["1"]),
        ("1,3,0", ["1"]),
        ("MIG-c3", ["MIG-c3"]),
        ("-1", []),
    ],
)
def test_only_the_workers_own_gpus_count(
    monkeypatch: pytest.MonkeyPatch, inherited: str | None, entries: list[str]
) -> None:
    """Those that an inherited CUDA_VISIBLE_DEVICES names, in its order, up to an entry that names none or several.

    Name and memory are torch's: the driver doesn't know how much memory some GPUs have.
    """
    if inherited is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", inherited)
    assert cuda_devices() == [CudaDevice(entry, f"torch's {entry}", 7) for entry in entries]


@pytest.mark.usefixtures("driver")
def test_a_gpu_that_torch_cannot_use_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The others keep their names, so that no process is shown it; one warning says which it is and what to do."""
    torch_with(monkeypatch, tmp_path, "1")
    with structlog.testing.capture_logs() as logs:
        pool = DevicePool(cuda_devices())
    (said,) = logs
    assert (said["log_level"], said["gpus"]) == ("warning", ["1: A100"])
    assert "the driver has to suit CUDA 13.2: update it" in said["advice"]
    taken = pool.take(2)
    assert taken is not None
    assert pool.environment(taken)["CUDA_VISIBLE_DEVICES"] == "0,2"
    assert pool.take(1) is None


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("built_for", "refused", "reason", "advice"),
    [
        (None, (), "built without CUDA", "install a build of PyTorch with CUDA"),
        ("13.2", (), "PyTorch sees no device", "the driver has to suit CUDA 13.2: update it"),
        (
            "13.2",
            ("GTX 980: no kernel image",),
            "can't use GTX 980: no kernel image",
            "a build of PyTorch for this GPU",
        ),
    ],
)
def test_one_warning_says_why_no_gpu_is_used(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    built_for: str | None,
    refused: tuple[str, ...],
    reason: str,
    advice: str,
) -> None:
    """The same reason for all three GPUs is said once."""
    torch_with(monkeypatch, tmp_path, "0", "1", "2", built_for=built_for, refused=refused)
    with structlog.testing.capture_logs() as logs:
        assert cuda_devices() == []
    (said,) = logs
    assert said["gpus"] == ["0: H200", "1: A100", "2: L4"]
    assert reason in said["reason"]
    assert advice in said["advice"]


@pytest.mark.usefixtures("driver")
def test_a_torch_that_fails_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own words are the reason."""
    monkeypatch.setattr(torch_devices, "ASK", "raise ImportError('libcudart.so.13: cannot open')")
    with structlog.testing.capture_logs() as logs:
        assert cuda_devices() == []
    assert "libcudart.so.13: cannot open" in logs[0]["reason"]


@pytest.mark.usefixtures("driver")
def test_the_installed_torch_does_not_see_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the driver says: torch itself is asked."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a1")
    with structlog.testing.capture_logs() as logs:
        assert cuda_devices() == []
    assert logs[0]["gpus"] == ["GPU-a1: H200"]


def test_without_a_driver_torch_is_not_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, starts: Path) -> None:
    """It would take seconds; with one it is started once a GPU."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert cuda_devices() == []
    assert starts.read_text() == ""
    program = tmp_path / "nvidia-smi"
    program.write_text(DRIVER)
    program.chmod(0o755)
    cuda_devices()
    assert starts.read_text().splitlines() == ["imported"] * 3


@pytest.mark.gpu
def test_this_machines_gpus_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has the name and the memory that this process's torch says."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    found = cuda_devices()
    assert sorted(device.name for device in found) == sorted(names)
    assert {device.memory_bytes for device in found} >= {torch.cuda.get_device_properties(0).total_memory}


def test_a_process_sees_its_gpus_alone() -> None:
    """By the names that the worker has for them, or an empty list for a job on the CPU."""
    pool = DevicePool([CudaDevice(entry, "H200", 1) for entry in ("3", "GPU-b1")])
    shown = [pool.environment(indices)["CUDA_VISIBLE_DEVICES"] for indices in ([0], [0, 1], [])]
    assert shown == ["3", "3,GPU-b1", ""]
    assert visible_devices(["3"]) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "3"}
