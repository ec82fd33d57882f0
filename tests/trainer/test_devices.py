"""GPUs are counted without torch, and each has one process at a time."""

from trainer.devices import DevicePool, parse_gpus, visible_devices


def test_the_driver_names_the_gpus() -> None:
    """A line a GPU, memory in MiB."""
    answer = "NVIDIA H200, 143771\nNVIDIA A100-SXM4-40GB, 40960\n"
    assert parse_gpus(answer) == [
        {"name": "NVIDIA H200", "memory_bytes": 143771 * 1024 * 1024},
        {"name": "NVIDIA A100-SXM4-40GB", "memory_bytes": 42_949_672_960},
    ]
    assert parse_gpus("") == []


def test_a_gpu_is_taken_once() -> None:
    """Two takers get two GPUs, a third none until one is given back."""
    pool = DevicePool(2)
    assert [pool.take(), pool.take(), pool.take()] == [0, 1, None]
    pool.give_back(0)
    assert pool.take() == 0


def test_a_process_sees_its_gpu_alone() -> None:
    """One index, or an empty list for a job on the CPU."""
    assert visible_devices(3)["CUDA_VISIBLE_DEVICES"] == "3"
    assert visible_devices(None)["CUDA_VISIBLE_DEVICES"] == ""
