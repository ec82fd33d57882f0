"""Top-1 on CIFAR-10 by epochs of pretraining, beside the same encoder trained with labels.

    python benchmarks/cifar10.py --data cifar10.tar.gz --work work --epochs 10 50 200
    python benchmarks/cifar10.py --data cifar10.tar.gz --work work --minutes 10

--data is an archive or a folder of train/CLASS/*.jpg and test/CLASS/*.jpg. Every number of epochs is trained from
scratch, with its own cosine schedule; --minutes finds the number that this machine trains in that time. Then h is
frozen, and the linear and the kNN probe learn from the training split; last of all each is scored on the test split,
which nothing was chosen by. All is done by the product's own processes (`python -m trainer`) in folders in --work:
interrupted, the same command goes on from the newest checkpoint, and what was finished is not done again.

Without a GPU, or with --reduced, 5,000 training and 1,000 test images are used, as many of each class, with the preset
cpu-small: about 5 minutes on two cores, and no figure to compare with anybody's. Ends with one JSON line.
"""

import argparse
import json
import shutil
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from images import first_of_each_class
from machine import device_name, versions
from rich.console import Console
from rich.table import Table
from run_folders import POLL_SECONDS, events, packed, process_of, result, run_folder
from supervised import supervised_top1

from models.config import PRESETS, PretrainRecipe, pretrain_recipe
from service.local_files import read_images
from trainer.pack import Pack
from trainer.run import RunFolder, RunSpec

REDUCED = {"num_train": 500, "num_test": 100}  # of each class
WINDOWS = 6  # of a second each, to tell how fast a machine trains
WARM_WINDOWS = 2
LONG = 10_000  # epochs of a job that is ended when its pace is known
PROBES = ("linear_probe", "knn_probe")


@dataclass(frozen=True)
class Defaults:
    """What options are where they aren't given."""

    preset: str
    epochs: list[int]
    supervised_epochs: int


FULL_DEFAULTS = Defaults("cifar10", [100], 30)
REDUCED_DEFAULTS = Defaults("cpu-small", [20], 10)


class Benchmark:
    """A data set, a device and recipe fields; each method's work is kept in the work folder."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.work: Path = options.work
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.fields = recipe_fields(options)
        size = "reduced" if options.reduced else "full"

        def images() -> Any:
            found = read_images(options.data)
            return first_of_each_class(found, **REDUCED) if options.reduced else found

        self.work.mkdir(parents=True, exist_ok=True)
        self.dataset = packed(self.work / f"data-{size}", images, storage_side=32)
        self.pack = Pack.open(self.dataset)

    def recipe(self, epochs: int) -> dict[str, Any]:
        """The recipe's fields; the warm-up is a tenth of a short run, since ten epochs would be all of it."""
        warmup = {"warmup_epochs": min(pretrain_recipe(self.fields).schedule.warmup_epochs, epochs / 10)}
        return self.fields | {"schedule": warmup | self.fields.get("schedule", {}) | {"epochs": epochs}}

    def pretrain(self, name: str, epochs: int) -> dict[str, Any]:
        """The result of the pretraining job."""
        spec = RunSpec(kind="pretrain", recipe=self.recipe(epochs), device=self.device)
        return result(run_folder(self.work / name, spec, dataset=self.dataset))

    def probe(self, name: str, kind: Any) -> dict[str, Any]:
        """The result of a probe of the encoder that the pretraining job of this name exported."""
        spec = RunSpec(kind=kind, recipe={}, device=self.device)
        folder, model = self.work / f"{name}-{kind}", self.work / name / "output"
        return result(run_folder(folder, spec, dataset=self.dataset, model=model))

    def epochs_in(self, minutes: float, name: str) -> int:
        """The epochs that this machine trains in so many minutes, its start and compilation counted.

        Those of the pretraining job of this name, if it has begun.
        """
        if (begun := RunFolder(self.work / name)).spec_path.exists():
            return pretrain_recipe(begun.spec().recipe).schedule.epochs
        start_seconds, rate = self._pace()
        batch_size = pretrain_recipe(self.fields).batch_size
        epoch_seconds = len(self.pack.split("train")) // batch_size * batch_size / rate
        epochs = max(1, int((60 * minutes - start_seconds) / epoch_seconds))
        print(f"{rate:.0f} images/s after {start_seconds:.0f} s: {epochs} epochs in {minutes:g} minutes", flush=True)
        return epochs

    def _pace(self) -> tuple[float, float]:
        """Seconds until a pretraining job reports, and images a second from then on."""
        folder = self.work / "pace"
        shutil.rmtree(folder, ignore_errors=True)
        spec = RunSpec(kind="pretrain", recipe=self.recipe(LONG), device=self.device)
        run = run_folder(folder, spec, dataset=self.dataset)
        started = time.monotonic()
        start_seconds, rates = 0.0, list[float]()
        with process_of(run) as process:
            while len(rates) < WARM_WINDOWS + WINDOWS:
                if process.poll() is not None:
                    sys.exit(f"training ended early, see {run.log}")
                time.sleep(POLL_SECONDS)
                rates = [event["images_per_second"] for event in events(run) if event["type"] == "metrics"]
                start_seconds = start_seconds if rates else time.monotonic() - started
        shutil.rmtree(folder)
        return start_seconds, statistics.median(rates[WARM_WINDOWS:])

    def supervised(self, epochs: int) -> float:
        """The test accuracy of the encoder trained with labels, now or before."""
        recipe, path = pretrain_recipe(self.fields), self.work / "supervised.json"
        trained = {"epochs": epochs, "recipe": recipe.model_dump(mode="json")}
        before = json.loads(path.read_text()) if path.exists() else {}
        if before.get("trained") != trained:
            top1 = supervised_top1(self.pack, recipe, epochs, torch.device(self.device))
            before = {"trained": trained, "top1": top1}
            path.write_text(json.dumps(before))
        return float(before["top1"])


def recipe_fields(options: argparse.Namespace) -> dict[str, Any]:
    """The fields that the options give; --set comes last."""
    fields: dict[str, Any] = {"preset": options.preset, "seed": options.seed}
    if options.batch_size:
        fields["batch_size"] = options.batch_size
    for assignment in options.set:
        path, _, value = assignment.partition("=")
        *groups, key = path.split(".")
        place = fields
        for group in groups:
            place = place.setdefault(group, {})
        place[key] = _value(value)
    return fields


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def row_of(benchmark: Benchmark, name: str, epochs: int) -> dict[str, Any]:
    """What came of the pretraining job of this name."""
    trained = benchmark.pretrain(name, epochs)
    linear, knn = (benchmark.probe(name, kind) for kind in PROBES)
    return {
        "epochs": epochs,
        "seconds": round(trained["seconds"], 1),
        "linear_top1": linear["top1"],
        "linear_interval": linear["confidence_interval"],
        "knn_top1": knn["top1"],
        "images_per_second": round(trained["images_per_second"]),
    }


def print_table(rows: list[dict[str, Any]], supervised: float | None, supervised_epochs: int) -> None:
    """The rows, and the supervised accuracy below them."""
    table = Table("epochs", "seconds", "images/s", "linear top-1", "95% interval", "kNN top-1")
    for row in rows:
        low, high = row["linear_interval"]
        numbers = (row["epochs"], row["seconds"], row["images_per_second"], f"{row['linear_top1']:.2%}")
        table.add_row(*map(str, numbers), f"{100 * low:.1f}-{high:.1%}", f"{row['knn_top1']:.2%}")
    if supervised is not None:
        table.add_row(f"{supervised_epochs} with labels", "", "", f"{supervised:.2%}", "", "")
    Console().print(table)


def parsed() -> argparse.Namespace:
    """The options, with the defaults of this machine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="archive or folder of CIFAR-10")
    parser.add_argument("--work", type=Path, default=Path("cifar10-work"), help="of one data set")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=int, nargs="+", help="default: 100; 20 with --reduced")
    length.add_argument("--minutes", type=float, help="of pretraining")
    parser.add_argument("--reduced", action="store_true", help="a tenth of the images; always so without a GPU")
    parser.add_argument("--preset", choices=PRESETS, help="default: cifar10; cpu-small with --reduced")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="recipe fields: loss.temperature=0.2")
    parser.add_argument("--supervised-epochs", type=int, help="default: 30; 10 with --reduced; 0: leave it out")
    parser.add_argument("--out", type=Path, help="file that the JSON line is appended to")
    options = parser.parse_args()
    options.reduced = options.reduced or not torch.cuda.is_available()
    for name, default in vars(REDUCED_DEFAULTS if options.reduced else FULL_DEFAULTS).items():
        if getattr(options, name) is None:
            setattr(options, name, default)
    try:
        pretrain_recipe(recipe_fields(options))
    except ValueError as error:
        parser.error(str(error))
    return options


def main() -> int:
    """Run the benchmark; the exit status."""
    options = parsed()
    benchmark = Benchmark(options)
    if options.minutes:
        name = f"pretrain-{options.minutes:g}-minutes"
        names = {name: benchmark.epochs_in(options.minutes, name)}
    else:
        names = {f"pretrain-{epochs}-epochs": epochs for epochs in options.epochs}
    for name, epochs in names.items():  # all are trained before the first is scored
        benchmark.pretrain(name, epochs)
    supervised = benchmark.supervised(options.supervised_epochs) if options.supervised_epochs else None
    rows = [row_of(benchmark, name, epochs) for name, epochs in names.items()]
    print_table(rows, supervised, options.supervised_epochs)
    recipe: PretrainRecipe = pretrain_recipe(benchmark.recipe(rows[-1]["epochs"]))
    report = {
        "device": device_name(),
        "versions": versions("torchvision", "numpy"),
        "reduced": options.reduced,
        "num_train": len(benchmark.pack.split("train")),
        "num_test": len(benchmark.pack.split("test")),
        "recipe": recipe.model_dump(mode="json"),
        "rows": rows,
        "supervised_top1": supervised,
        "supervised_epochs": options.supervised_epochs,
    }
    line = json.dumps(report)
    if options.out:
        with options.out.open("a") as file:
            file.write(line + "\n")
    print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
