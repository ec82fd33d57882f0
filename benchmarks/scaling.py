"""What do several processes cost? Images a second of 1 and of 2 ranks with one global batch, and where the time goes.

    python benchmarks/scaling.py [--seconds 8] [--rounds 3] [--out scaling.json]

In each round, in turn, each for --seconds after a warm-up, all with the same cores:

    one     one process with all cores and the whole batch
    gang    two ranks of half the cores and batch: global batch norm, all negatives, summed gradients
    apart   two processes with as much each, that know nothing of each other

`gang` and `apart` do the same arithmetic but for the larger matrix of the loss; what `gang` takes longer is talking and
waiting for the slower rank. Bytes a step are counted from the network (docs/scale.md), and collective operations are
timed by themselves: a latency, and a rate for long messages. Ends with one JSON line.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from images import write_small_images
from machine import device_name, num_cores, versions
from run_folders import events, packed, run_folder
from torch import nn

from models.config import PretrainRecipe, pretrain_recipe
from models.simclr import SimCLR
from service.core.child import child_command
from service.local_files import read_images
from tests.stack import free_port
from trainer.memory import KEEP_MEMORY
from trainer.run import RunFolder, RunSpec

NUM_IMAGES = 4096
NUM_WARM_EVENTS = 2  # the first reports: caches, allocator
SETTINGS: dict[str, dict[str, Any]] = {
    "resnet10_quarter": {"batch_size": 256, "encoder": {"name": "resnet10", "width": 0.25}},
    "resnet18": {"batch_size": 64, "encoder": {"name": "resnet18", "width": 1}},
}
COLLECTIVE_SIZES = (1, 2**10, 2**14, 2**18, 2**20, 2**22)  # float32 values
FLOAT_BYTES = 4

TIME_COLLECTIVES = """
import sys, time, torch, torch.distributed as dist
dist.init_process_group("gloo")
for number in map(int, sys.argv[1:]):
    values, times = torch.zeros(number), []
    for repetition in range(60 if number < 2**18 else 12):
        dist.barrier()
        started = time.perf_counter()
        dist.all_reduce(values)
        times.append(time.perf_counter() - started)
    if not dist.get_rank():
        print(number, sorted(times)[len(times) // 2], flush=True)
"""


def ranks_environment(rank: int, world_size: int, port: int) -> dict[str, str]:
    """What torchrun would set."""
    values = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "MASTER_PORT": port}
    return {name: str(value) for name, value in values.items()} | {"MASTER_ADDR": "127.0.0.1"}


@contextmanager
def processes(commands: Sequence[tuple[Sequence[str], dict[str, str]]]) -> Iterator[list[subprocess.Popen[str]]]:
    """The commands with their environments, as processes that are killed when the block ends."""
    started = [
        subprocess.Popen(
            child_command(command, on_parent_death=signal.SIGKILL),
            env=KEEP_MEMORY | os.environ | environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for command, environment in commands
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            with process:  # closes its output and waits for it
                pass


def images_per_second(runs: Sequence[RunFolder], num_ranks: int, threads: int, seconds: float) -> float:
    """Of all the runs together, each of so many ranks with so many threads, over `seconds`."""
    port = free_port()
    commands = [
        (
            [sys.executable, "-m", "trainer", str(run.path)],
            {"OMP_NUM_THREADS": str(threads)} | (ranks_environment(rank, num_ranks, port) if num_ranks > 1 else {}),
        )
        for run in runs
        for rank in range(num_ranks)
    ]
    with processes(commands) as started:
        while not all(len(rates(run)) > NUM_WARM_EVENTS for run in runs):
            time.sleep(0.1)
            if any(process.poll() is not None for process in started):
                sys.exit("a process ended early")
        time.sleep(seconds)
    return sum(statistics.mean(rates(run)[NUM_WARM_EVENTS:]) for run in runs)


def rates(run: RunFolder) -> list[float]:
    """Images a second that the run has reported, a second each."""
    return [event["images_per_second"] for event in events(run) if event["type"] == "metrics"]


def bytes_a_step(recipe: PretrainRecipe, world_size: int) -> dict[str, int]:
    """What a rank contributes to each kind of collective operation in one step, in bytes."""
    with torch.device("meta"):
        model = SimCLR(recipe)
    norms = [m.num_features for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]  # noqa: SLF001
    views = 2 * recipe.batch_size // world_size
    return {
        "gradients": FLOAT_BYTES * sum(w.numel() for w in model.parameters() if w.requires_grad),
        "batch_norm": FLOAT_BYTES * sum(2 * size + 1 + 2 * size for size in norms),  # forward and backward
        "projections": FLOAT_BYTES * views * (model.head.size + 1),  # z and the log of each row's sum
        "num_batch_norms": len(norms),
    }


def collective_seconds() -> dict[str, float]:
    """Of an all-reduce over two processes: seconds of the shortest, and bytes a second of the longest."""
    port = free_port()
    command = [sys.executable, "-c", TIME_COLLECTIVES, *map(str, COLLECTIVE_SIZES)]
    one_thread = {"OMP_NUM_THREADS": "1"}
    with processes([(command, one_thread | ranks_environment(rank, 2, port)) for rank in range(2)]) as (first, _):
        lines = first.communicate()[0].splitlines()
    found = {int(number): float(seconds) for number, seconds in map(str.split, lines)}
    for number, seconds in found.items():
        print(f"  all-reduce of {FLOAT_BYTES * number:>10,} bytes: {1e6 * seconds:10.0f} us")
    longest = max(found)
    return {
        "latency_seconds": found[min(found)],
        "bytes_per_second": FLOAT_BYTES * longest / found[longest],
    }


def measure(name: str, work: Path, pack: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """The figures of a setting."""
    fields = {"preset": "cpu-small", "schedule": {"epochs": 10_000, "warmup_epochs": 10}, **SETTINGS[name]}
    recipe = pretrain_recipe(fields)
    half = recipe.model_copy(update={"batch_size": recipe.batch_size // 2})
    candidates = {"one": (recipe, 1, 1), "gang": (recipe, 1, 2), "apart": (half, 2, 1)}
    found: dict[str, list[float]] = {candidate: [] for candidate in candidates}
    for number in range(rounds):
        for candidate, (trained, num_runs, num_ranks) in candidates.items():
            spec = RunSpec(kind="pretrain", recipe=trained.model_dump(mode="json"))
            paths = [work / f"{name}-{candidate}-{number}-{i}" for i in range(num_runs)]
            runs = [run_folder(path, spec, dataset=pack) for path in paths]
            threads = max(1, num_cores() // (num_runs * num_ranks))
            found[candidate].append(images_per_second(runs, num_ranks, threads, seconds))
            print(f"  {name} round {number + 1}: {candidate:6}{found[candidate][-1]:9.1f} images/s", flush=True)
    shares = [1 - gang / apart for gang, apart in zip(found["gang"], found["apart"], strict=True)]
    return {
        "batch_size": recipe.batch_size,
        **{
            f"{candidate}_images_per_second": round(statistics.median(values), 1) for candidate, values in found.items()
        },
        "gang_over_one": _median_of_ratios(found["gang"], found["one"]),
        "communication_share": round(statistics.median(shares), 3),
        "communication_share_spread": [round(min(shares), 3), round(max(shares), 3)],
        "bytes_a_step": bytes_a_step(recipe, 2),
    }


def _median_of_ratios(above: Sequence[float], below: Sequence[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(above, below, strict=True)), 3)


def main() -> int:
    """Run the benchmark; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=SETTINGS, help="one of the two networks")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="length of a window")
    parser.add_argument("--out", type=Path, help="file for the JSON line")
    options = parser.parse_args()
    report: dict[str, Any] = {"device": device_name(), "versions": versions()}
    with tempfile.TemporaryDirectory(prefix="simclr-scaling-") as folder:
        work = Path(folder)
        images = work / "images"
        images.mkdir()
        write_small_images(images, NUM_IMAGES)
        pack = packed(work / "ingest", lambda: read_images(images))
        report["all_reduce"] = collective_seconds()
        for name in SETTINGS:
            if options.only in {None, name}:
                report[name] = measure(name, work, pack, options.rounds, options.seconds)
    line = json.dumps(report)
    if options.out:
        options.out.write_text(line + "\n")
    print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
