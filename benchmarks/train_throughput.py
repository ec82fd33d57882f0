"""How many images a second does training take, beside its step alone, and beside lightly's SimCLR?

    pip install -r benchmarks/requirements.txt
    python benchmarks/train_throughput.py [--only resnet18_32] [--out throughput.json]

Three are timed, --seconds each, --rounds times. The first two take turns of a second:

    pipeline   training as it runs here: packed images -> two views -> step
    step       the step alone, on views that are ready
    lightly    lightly's pipeline as its documentation writes it: JPEG files -> workers -> step, in float32

for ResNet-18 on 32 pixels and ResNet-50 on 224, with the same batch size and encoder for all; on CUDA also
`lightly_bf16`, with autocast to bfloat16 and channels_last, which its documentation doesn't have. Workers run in
lightly's windows only, as many as there are cores. Training here decodes each image once, when the data set comes in:
how long that takes is printed and not counted. Lightly decodes at each step. All run with the memory settings of a
training process (trainer/memory.py).

A ratio is the median over rounds, with the least and the greatest. Ends with one JSON line; exits with 1 when a floor
is missed (the table FLOORS; images a second are an H100's), with 2 where lightly is not installed.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from images import write_photographs, write_small_images
from machine import device_name, num_cores, versions
from run_folders import packed
from torch.utils.flop_counter import FlopCounterMode

from models.config import PretrainRecipe, pretrain_recipe
from models.simclr import SimCLR
from service.local_files import read_images
from trainer.batches import training_batches
from trainer.data import ImageStore
from trainer.memory import KEEP_MEMORY
from trainer.optim import build_optimizer
from trainer.pack import Pack
from trainer.step import build_model, train_step

try:
    import lightly_pipeline
except ModuleNotFoundError as error:
    print(f"{error}; pip install -r benchmarks/requirements.txt", file=sys.stderr)
    sys.exit(2)

LEARNING_RATE = 0.06  # of no consequence, but that weights move and stay finite
WARM_STEPS = {"cpu": 2, "cuda": 10}  # before a window; the first of all also compile
TURN_SECONDS = 1.0
MIN_STEPS = 3  # in a window, however slow
OURS = ["pipeline", "step"]
ENDLESS = 10**9


@dataclass(frozen=True)
class Floors:
    """What must be reached."""

    pipeline_over_step: float
    pipeline_over_lightly: float
    images_per_second: float


@dataclass(frozen=True)
class Setting:
    """A network on a size of images."""

    preset: str
    image_size: int
    num_images: int  # generated, if none are given
    generate: Callable[[Path, int], None]
    batch_sizes: dict[str, int]
    floors: dict[str, Floors]


SETTINGS = {
    "resnet18_32": Setting(
        "cifar10",
        32,
        4096,
        write_small_images,
        {"cpu": 64, "cuda": 512},
        {"cpu": Floors(0.97, 1.6, 0), "cuda": Floors(0.97, 5, 20_000)},
    ),
    "resnet50_224": Setting(
        "imagenet",
        224,
        512,
        write_photographs,
        {"cpu": 8, "cuda": 256},
        {"cpu": Floors(0.97, 1.6, 0), "cuda": Floors(0.97, 2, 2_000)},
    ),
}


@dataclass(frozen=True)
class Candidate:
    """What is timed: makes an endless run of steps, of which the first `num_skipped` are not."""

    steps: Callable[[], Iterator[None]]
    num_skipped: int


class OurTraining:
    """The parts of trainer/loop.py between a packed data set and the weights."""

    def __init__(self, recipe: PretrainRecipe, pack: Pack, device: torch.device) -> None:
        self.recipe = recipe
        self.store = ImageStore(pack, pack.split("train"), device)
        self.model = build_model(recipe, device).train()
        self.optimizer = build_optimizer(self.model, recipe.optimizer)
        for group in self.optimizer.param_groups:
            group["lr"] = LEARNING_RATE

    def pipeline(self) -> Iterator[None]:
        """Steps from packed images."""
        for batch in training_batches(self.store, self.recipe, 0, ENDLESS):
            train_step(self.model, self.optimizer, batch.views(), self.recipe)
            yield

    def step(self) -> Iterator[None]:
        """Steps on the first batch's views."""
        x = next(training_batches(self.store, self.recipe, 0, 1)).views()
        while True:
            train_step(self.model, self.optimizer, x, self.recipe)
            yield


def recipe_of(setting: Setting, batch_size: int) -> PretrainRecipe:
    """The setting's preset, with the encoder that is compared."""
    name = "resnet18" if setting.image_size == 32 else "resnet50"
    return pretrain_recipe({"preset": setting.preset, "batch_size": batch_size, "encoder": {"name": name}})


def candidates(setting: Setting, ours: OurTraining, files: Path) -> dict[str, Candidate]:
    """What is timed in a round, in turn."""
    device, batch_size = ours.store.device, ours.recipe.batch_size
    warm = WARM_STEPS[device.type]
    timed = {"pipeline": Candidate(ours.pipeline, warm), "step": Candidate(ours.step, warm)}
    for name, bfloat16 in (("lightly", False), ("lightly_bf16", True)):
        if bfloat16 and device.type != "cuda":
            continue
        theirs = lightly_pipeline.LightlyPipeline(
            files,
            image_size=setting.image_size,
            batch_size=batch_size,
            num_workers=num_cores(),
            device=device,
            bfloat16=bfloat16,
        )
        # What the workers have ready when it begins would count as made in the window.
        timed[name] = Candidate(theirs.steps, warm + theirs.num_prefetched)
    return timed


def images_per_second(in_turn: list[Candidate], batch_size: int, seconds: float, device: torch.device) -> list[float]:
    """Of candidates that take turns, so that a machine's slow moments hit all alike; each for `seconds` or longer."""
    steps, elapsed = [0] * len(in_turn), [0.0] * len(in_turn)
    with ExitStack() as stack:
        runs = [stack.enter_context(closing(candidate.steps())) for candidate in in_turn]
        for run, candidate in zip(runs, in_turn, strict=True):
            for _ in range(candidate.num_skipped):
                next(run)
        while min(elapsed) < seconds or min(steps) < MIN_STEPS:
            for number, run in enumerate(runs):
                num_steps, turn_seconds = turn(run, device)
                steps[number] += num_steps
                elapsed[number] += turn_seconds
    if device.type == "cuda":
        torch.cuda.empty_cache()  # the next ones' blocks are of other sizes
    return [num_steps * batch_size / seconds for num_steps, seconds in zip(steps, elapsed, strict=True)]


def turn(run: Iterator[None], device: torch.device) -> tuple[int, float]:
    """Steps for TURN_SECONDS, at least one: how many, and their seconds."""
    wait_for(device)
    started, num_steps = time.perf_counter(), 0
    while not num_steps or time.perf_counter() - started < TURN_SECONDS:
        next(run)
        num_steps += 1
    wait_for(device)
    return num_steps, time.perf_counter() - started


def wait_for(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measured(timed: dict[str, Candidate], batch_size: int, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Images a second of each candidate, a value a round."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rates: dict[str, list[float]] = {name: [] for name in timed}
    groups = [OURS, *([name] for name in timed if name not in OURS)]  # lightly's workers run in its own windows only
    for number in range(rounds):
        for names in groups:
            found = images_per_second([timed[name] for name in names], batch_size, seconds, device)
            for name, rate in zip(names, found, strict=True):
                rates[name].append(rate)
                print(f"  round {number + 1} of {rounds}: {name:13}{rate:10.1f} images/s", flush=True)
    return rates


def summary(rates: dict[str, list[float]]) -> dict[str, Any]:
    """Medians over rounds; a ratio's is of the ratios of rounds. `spread` is the least and the greatest."""
    ratios = {
        f"pipeline_over_{name}": [ours / theirs for ours, theirs in zip(rates["pipeline"], rates[name], strict=True)]
        for name in rates
        if name != "pipeline"
    }
    figures: dict[str, Any] = {"images_per_second": round(statistics.median(rates["pipeline"]), 1)}
    figures |= {f"{name}_images_per_second": round(statistics.median(rates[name]), 1) for name in list(rates)[1:]}
    figures |= {name: round(statistics.median(values), 3) for name, values in ratios.items()}
    figures["spread"] = {"images_per_second": _spread(rates["pipeline"], 1)}
    figures["spread"] |= {name: _spread(values, 3) for name, values in ratios.items()}
    return figures


def _spread(values: list[float], digits: int) -> list[float]:
    return [round(min(values), digits), round(max(values), digits)]


def missed_floors(figures: dict[str, Any], floors: Floors) -> list[str]:
    """What falls short, in words."""
    return [
        f"{name}: at least {floor}, not {figures[name]}"
        for name, floor in vars(floors).items()
        if figures[name] < floor
    ]


def describe_networks(recipe: PretrainRecipe) -> None:
    """Print the encoders' parameters and arithmetic; assert that they are the same."""
    size = recipe.preprocessing.image_size
    with torch.device("meta"):
        ours, theirs = SimCLR(recipe), lightly_pipeline.build(size)
        sizes = [(_num_parameters(net.encoder), _num_parameters(net.head), _flops(net, size)) for net in (ours, theirs)]
    for name, (encoder, head, flops) in zip(("ours", "lightly"), sizes, strict=True):
        print(f"  {name:8} encoder {encoder:,} parameters, head {head:,}; forward {flops / 1e9:.3f} GFLOP an image")
    assert sizes[0][0] == sizes[1][0], "the encoders differ"
    assert sizes[0][2] == sizes[1][2], "the networks' arithmetic differs"


def _num_parameters(module: torch.nn.Module) -> int:
    return sum(w.numel() for w in module.parameters() if w.requires_grad)


def _flops(network: torch.nn.Module, image_size: int) -> float:
    counter = FlopCounterMode(display=False)
    with counter:
        network(torch.empty(2, 3, image_size, image_size))
    return counter.get_total_flops() / 2


def run(name: str, folder: Path | None, batch_size: int | None, options: argparse.Namespace) -> tuple[Any, list[str]]:
    """A setting's figures and what falls short of its floors."""
    torch.compiler.reset()  # else the second setting would be compiled for any shape
    setting, device = SETTINGS[name], torch.device("cuda" if torch.cuda.is_available() else "cpu")
    recipe = recipe_of(setting, batch_size or setting.batch_sizes[device.type])
    print(f"{name}, {recipe.batch_size} images a step")
    describe_networks(recipe)
    with tempfile.TemporaryDirectory(prefix="simclr-throughput-") as temporary:
        work = Path(temporary)
        files = folder or work / "files"
        if not folder:
            files.mkdir()
            setting.generate(files, max(setting.num_images, 2 * recipe.batch_size))
        started = time.perf_counter()
        pack = Pack.open(packed(work / "ingest", lambda: read_images(files)))
        print(
            f"  {len(pack)} images of {_mean_kilobytes(files):.1f} kB packed in {time.perf_counter() - started:.1f} s"
        )
        timed = candidates(setting, OurTraining(recipe, pack, device), files)
        figures = summary(measured(timed, recipe.batch_size, options.rounds, options.seconds))
    figures = {"batch_size": recipe.batch_size, "rounds": options.rounds, "num_workers": num_cores(), **figures}
    return figures, [f"{name}: {missed}" for missed in missed_floors(figures, setting.floors[device.type])]


def _mean_kilobytes(folder: Path) -> float:
    return statistics.mean(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1000


def main() -> int:
    """Run the benchmark; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=SETTINGS, help="one of the two settings")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a window")
    parser.add_argument("--batch-32", type=int, help="images a step at 32 pixels; default: 64 on a CPU, 512 on a GPU")
    parser.add_argument("--batch-224", type=int, help="the same at 224 pixels; default: 8 and 256")
    parser.add_argument("--images-32", type=Path, help="folder of image files; default: generated")
    parser.add_argument("--images-224", type=Path, help="the same for 224 pixels")
    parser.add_argument("--out", type=Path, help="file for the JSON line")
    options = parser.parse_args()
    if not KEEP_MEMORY.items() <= os.environ.items():  # they count from a process's start on
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | KEEP_MEMORY)  # noqa: S606  # itself
    report: dict[str, Any] = {"device": device_name(), "versions": versions("torchvision", "lightly")}
    missed = []
    for name, setting in SETTINGS.items():
        if options.only in {None, name}:
            size = setting.image_size
            folder, batch_size = getattr(options, f"images_{size}"), getattr(options, f"batch_{size}")
            report[name], below = run(name, folder, batch_size, options)
            missed += below
    for line in missed:
        print(line)
    line = json.dumps(report)
    if options.out:
        options.out.write_text(line + "\n")
    print(line)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
