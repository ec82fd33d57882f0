"""GPUs are counted without torch, and each has one process at a time."""

from pathlib import Path

import pytest

from trainer.devices import DevicePool, Gpu, cuda_devices, parse_gpus, visible_devices

THREE = "GPU-a1, H200, 1\nGPU-a2, A100, 2\nGPU-b1, L4, 3\n"


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of three GPUs."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nprintf '{THREE}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


def test_the_driver_names_the_gpus() -> None:
    """A line a GPU, memory in MiB."""
    answer = "GPU-1, NVIDIA H200, 143771\nGPU-2, NVIDIA A100-SXM4-40GB, 40960\n"
    assert parse_gpus(answer) == [
        Gpu("GPU-1", "NVIDIA H200", 143771 * 1024 * 1024),
        Gpu("GPU-2", "NVIDIA A100-SXM4-40GB", 42_949_672_960),
    ]
    assert parse_gpus("") == []


def test_a_gpu_is_taken_once() -> None:
    """Two takers get two GPUs, a third none until one is given back."""
    pool = DevicePool(2)
    assert [pool.take(1), pool.take(1), pool.take(1)] == [[0], [1], None]
    pool.give_back([0])
    assert pool.take(1) == [0]


def test_a_job_takes_all_its_gpus_or_none() -> None:
    """Three of two free GPUs aren't taken, and none is lost by asking; a job on the CPU takes none."""
    pool = DevicePool(3)
    assert pool.take(1) == [0]
    assert [pool.take(3), pool.take(2), pool.take(0)] == [None, [1, 2], []]


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("inherited", "names"),
    [
        (None, ["H200", "A100", "L4"]),
        ("", []),
        ("2,0", ["L4", "H200"]),
        ("GPU-b1, 1", ["L4", "A100"]),
        ("GPU-b", ["L4"]),
        ("1,GPU-a,0", ["A100"]),
        ("1,3,0", ["A100"]),
        ("-1", []),
    ],
)
def test_only_the_workers_own_gpus_count(
    monkeypatch: pytest.MonkeyPatch, inherited: str | None, names: list[str]
) -> None:
    """Those that an inherited CUDA_VISIBLE_DEVICES names, in its order, up to an entry that names none or several."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if inherited is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", inherited)
    devices = cuda_devices()
    assert [device["name"] for device in devices] == names
    assert all(device.keys() == {"name", "memory_bytes"} for device in devices)


def test_a_pinned_gpu_is_one_of_the_workers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry of an inherited CUDA_VISIBLE_DEVICES is passed on as it is, index or UUID."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-b1")
    assert [visible_devices(shown)["CUDA_VISIBLE_DEVICES"] for shown in ([0], [0, 1], [])] == ["3", "3,GPU-b1", ""]


def test_a_process_sees_its_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its indices, or an empty list for a job on the CPU."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_devices([3])["CUDA_VISIBLE_DEVICES"] == "3"
    assert visible_devices([0, 2])["CUDA_VISIBLE_DEVICES"] == "0,2"
    assert visible_devices([])["CUDA_VISIBLE_DEVICES"] == ""
