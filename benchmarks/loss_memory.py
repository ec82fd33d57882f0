"""What does NT-Xent cost in memory and time, as the whole (2N, 2N) matrix and as ours?

    python benchmarks/loss_memory.py [--device cuda] [--max-n 65536] [--out FILE]

Runs forward and backward pass of both on N = 1k, 2k, 4k, ... images, D = 128, float32, temperature 0.1, and prints a
row for each N: the peak memory above what was there before, and the median time. The whole matrix runs as far as it
fits: into the GPU's free memory, on a CPU into 8 GiB. On CUDA both take turns in one process, and memory is what the
allocator handed out; the whole matrix is multiplied in float32, as PyTorch does unless told otherwise, ours in three
TF32 products of nearly that accuracy. On a CPU (Linux alone) each measurement is a fresh process, and memory is what
was resident.

Ends with one JSON line. `memory_slope` is the exponent of our memory over N: 1 is linear; the ratios are ours over the
whole matrix's at N = 32k, or at the largest N below where the whole matrix fits (`n_of_ratios`). Exits with 1 when
the slope is over 1.1, or when, on CUDA, we need over 1/20 of the memory, or more time.
"""

import argparse
import json
import math
import platform
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.losses.nt_xent import nt_xent

D, TEMPERATURE = 128, 0.1
FIRST_N, RATIOS_AT = 1024, 32 * 1024
CPU_LIMIT = 8 * 2**30  # bytes
DENSE_MATRICES = 4  # bound of the dense loss's peak, in (2N, 2N) matrices of float32; it is 3 and little more
MAX_SLOPE, MAX_CUDA_MEMORY_RATIO, MAX_CUDA_TIME_RATIO = 1.1, 1 / 20, 1.0

Cost = dict[str, float]


def dense_nt_xent(z: Tensor, temperature: float) -> Tensor:
    """NT-Xent of z (2N, D) as it is usually written."""
    z = F.normalize(z, dim=1)
    s = z @ z.T / temperature  # (2N, 2N)
    s.fill_diagonal_(-torch.inf)
    positives = torch.arange(len(z), device=z.device).roll(len(z) // 2)  # (2N,)
    return F.cross_entropy(s, positives)


LOSSES = {"dense": dense_nt_xent, "ours": nt_xent}


def projections(n: int, device: str) -> Tensor:
    """Random z of n images, (2n, D)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2 * n, D, generator=generator).to(device).requires_grad_()


def forward_and_backward(name: str, z: Tensor) -> float:
    """Seconds until loss and gradient are there."""
    z.grad = None
    started = time.perf_counter()
    LOSSES[name](z, TEMPERATURE).backward()  # type: ignore[no-untyped-call]  # torch's stub
    if z.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def measure_on_cuda(names: list[str], n: int, repeats: int) -> dict[str, Cost]:
    """The losses in turns, after a turn that compiles kernels and fills the allocator."""
    z = projections(n, "cuda")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    peaks = dict.fromkeys(names, 0)
    for _ in range(1 + repeats):
        for name in names:
            z.grad = None
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            seconds[name].append(forward_and_backward(name, z))
            peaks[name] = max(peaks[name], torch.cuda.max_memory_allocated() - before)
    torch.cuda.empty_cache()
    return {name: {"bytes": peaks[name], "seconds": statistics.median(seconds[name][1:])} for name in names}


def measure_on_cpu(names: list[str], n: int, repeats: int) -> dict[str, Cost]:
    """The losses one after the other, each in a fresh process: what one has freed doesn't hide what the next takes."""
    costs = {}
    for name in names:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            costs[name] = fresh.submit(measure_in_this_process, name, n, repeats).result()
    return costs


def measure_in_this_process(name: str, n: int, repeats: int) -> Cost:
    """Peak of the resident memory in the first pass, and the median time of the `repeats` after it."""
    forward_and_backward(name, projections(64, "cpu"))  # loads libraries and starts threads
    z = projections(n, "cpu")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak so far
    before = status_bytes("VmRSS")
    forward_and_backward(name, z)
    peak = status_bytes("VmHWM") - before
    return {"bytes": peak, "seconds": statistics.median(forward_and_backward(name, z) for _ in range(repeats))}


def status_bytes(field: str) -> int:
    """A size in /proc/self/status."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def measure(device: str, max_n: int, repeats: int) -> list[dict[str, Any]]:
    """A row for each N; prints them as they come."""
    limit = torch.cuda.mem_get_info()[0] if device == "cuda" else CPU_LIMIT
    print(f"{'N':>7} {'dense MiB':>10} {'ours MiB':>10} {'dense ms':>10} {'ours ms':>10}")
    rows = []
    for n in (2**i for i in range(FIRST_N.bit_length() - 1, max_n.bit_length())):
        dense_fits = DENSE_MATRICES * 4 * (2 * n) ** 2 <= limit
        names = ["dense", "ours"] if dense_fits else ["ours"]
        costs = (measure_on_cuda if device == "cuda" else measure_on_cpu)(names, n, repeats)
        rows.append({"n": n, **costs})
        mebibytes = [f"{costs[name]['bytes'] / 2**20:.1f}" if name in costs else "-" for name in LOSSES]
        milliseconds = [f"{1000 * costs[name]['seconds']:.2f}" if name in costs else "-" for name in LOSSES]
        print(f"{n:>7}", *(f"{text:>10}" for text in mebibytes + milliseconds), flush=True)
    return rows


def summary(device: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The slope of our memory by least squares over all N, and the ratios."""
    logs = [(math.log(row["n"]), math.log(row["ours"]["bytes"])) for row in rows]
    at = max((row for row in rows if "dense" in row and row["n"] <= RATIOS_AT), key=lambda row: row["n"])
    cpu = f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else cpu,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "memory_slope": round(statistics.linear_regression(*zip(*logs, strict=True)).slope, 3),
        "memory_ratio_32k": round(at["ours"]["bytes"] / at["dense"]["bytes"], 5),
        "time_ratio_32k": round(at["ours"]["seconds"] / at["dense"]["seconds"], 3),
        "n_of_ratios": at["n"],
        "rows": rows,
    }


def is_good(device: str, result: dict[str, Any]) -> bool:
    """Whether memory is linear and, on CUDA, a fraction of the whole matrix's, in no more time."""
    cheap = result["memory_ratio_32k"] <= MAX_CUDA_MEMORY_RATIO and result["time_ratio_32k"] <= MAX_CUDA_TIME_RATIO
    return bool(result["memory_slope"] <= MAX_SLOPE and (cheap or device == "cpu"))


def main() -> int:
    """Run the benchmark; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default_device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument(
        "--device", choices=["cuda", "cpu"], default=default_device, help="default: cuda if there is one"
    )
    parser.add_argument(
        "--max-n", type=int, help="largest N, at least 2048; default: 65536 on CUDA, 16384 on a CPU (a few minutes)"
    )
    parser.add_argument("--repeats", type=int, help="timed passes a measurement; default: 20 on CUDA, 3 on a CPU")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the JSON there too")
    arguments = parser.parse_args()
    on_cuda = arguments.device == "cuda"
    max_n = arguments.max_n or (65_536 if on_cuda else 16_384)
    if max_n < 2 * FIRST_N:
        parser.error(f"--max-n: at least {2 * FIRST_N}, for a slope, not {max_n}")
    if not on_cuda and not Path("/proc/self/clear_refs").exists():
        parser.error("--device cpu: the peak of a process's memory is read from Linux's /proc, which isn't here")
    rows = measure(arguments.device, max_n, arguments.repeats or (20 if on_cuda else 3))
    result = summary(arguments.device, rows)
    line = json.dumps(result)
    if arguments.out:
        arguments.out.write_text(line + "\n", encoding="utf-8")
    print(line)
    return 0 if is_good(arguments.device, result) else 1


if __name__ == "__main__":
    sys.exit(main())
