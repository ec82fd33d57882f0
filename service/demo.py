"""`simclr demo`: the whole product once, over HTTP, on real images.

Upload a data set -> pretrain SimCLR -> probe -> export -> promote -> index -> search, for three encoders: the
pretrained one, the same at its random initialisation, and raw pixels. Ends with a table and one JSON line.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from service.client import JSON, ApiError, Client, JobFailed
from service.local_files import LocalImage, pack_folder, read_images

RECIPE = "cpu-small"
ENCODERS = ("trained", "random", "pixels")
MAX_GALLERY = 1000
UPLOAD_IMAGES = 200
K = 10

# On a terminal its width; elsewhere (a log) wide enough for the progress line.
console = Console(width=None if sys.stdout.isatty() else 120)


class DemoFailed(Exception):
    """A stage did not do what it must."""


@dataclass
class Stages:
    """Shows a progress bar a stage and notes how long each took."""

    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, text: str) -> Iterator[Any]:
        """Run a stage; yields a function update(done, total, detail)."""
        bar = self.progress.add_task(text, total=None, detail="")
        started = time.monotonic()

        def update(done: float, total: float, detail: str = "") -> None:
            self.progress.update(bar, completed=done, total=total, detail=detail)

        yield update
        elapsed = time.monotonic() - started
        self.seconds[name] = round(self.seconds.get(name, 0) + elapsed, 1)
        task = self.progress.tasks[self.progress.task_ids.index(bar)]
        total = task.total or 1
        self.progress.update(bar, completed=total, total=total)


def _job_progress(update: Any) -> Any:
    def show(job: JSON) -> None:
        progress = job["progress"] or {}
        if not progress.get("steps"):
            update(0, 1, progress.get("stage", job["status"]))
            return
        parts = [progress.get("stage") or f"epoch {progress.get('epoch', 0):.1f}"]
        if progress.get("loss") is not None:
            parts.append(f"loss {progress['loss']:.3f}")
        if progress.get("images_per_second"):
            parts.append(f"{progress['images_per_second']:,.0f} images/s")
        update(progress["step"], progress["steps"], "  ".join(parts))

    return show


class Demo:
    """The stages, over one client."""

    def __init__(self, client: Client, stages: Stages) -> None:
        self.client = client
        self.stages = stages
        self.collection = f"demo-{time.strftime('%Y%m%d-%H%M%S')}"
        self.models: dict[str, str] = {}
        self.probes: dict[str, dict[str, float]] = {"linear": {}, "knn": {}}

    def run_job(self, stage: str, text: str, kind: str, **fields: Any) -> JSON:
        """Submit a job and show it until it succeeded."""
        with self.stages.stage(stage, text) as update:
            job = self.client.submit(kind, **fields)
            return self.client.wait_for_job(job["id"], _job_progress(update))

    def upload_dataset(self, archive: Path) -> JSON:
        """Upload, validate and pack the images."""
        with self.stages.stage("dataset", "upload and validate the images") as update:
            dataset = self.client.create_dataset(archive, on_invalid="skip")
            self.client.wait_for_job(dataset["job_id"], _job_progress(update))
            return self.client.get(f"/v1/datasets/{dataset['id']}")

    def pretrain(self, dataset: JSON) -> JSON:
        """Pretrain, and export the two baselines: no epochs, and no network. Returns the pretraining job."""
        num_images = dataset["splits"]["train"]["num_images"]
        recipe: JSON = {"preset": RECIPE}
        batch_size = self.client.get("/v1/recipes")["presets"][RECIPE]["recipe"]["batch_size"]
        if num_images < 2 * batch_size:
            recipe["batch_size"] = max(2, num_images // 2)
        untrained = {**recipe, "schedule": {"epochs": 0, "warmup_epochs": 0}}
        recipes = {
            "trained": ("pretrain SimCLR", recipe),
            "random": ("export the random initialisation", untrained),
            "pixels": ("export raw pixels", {**untrained, "encoder": {"name": "pixels"}, "head": {"num_layers": 0}}),
        }
        jobs = {}
        for encoder, (text, fields) in recipes.items():
            stage = "pretrain" if encoder == "trained" else "baselines"
            jobs[encoder] = self.run_job(stage, text, "pretrain", dataset_id=dataset["id"], recipe=fields)
            self.models[encoder] = jobs[encoder]["result"]["model_id"]
        return jobs["trained"]

    def probe(self, dataset: JSON) -> None:
        """Linear and nearest-neighbour probes of the three encoders on the test split."""
        for encoder in ENCODERS:
            for probe in ("linear", "knn"):
                job = self.run_job(
                    "probes",
                    f"{probe} probe of {encoder}",
                    f"{probe}_probe",
                    dataset_id=dataset["id"],
                    model_id=self.models[encoder],
                )
                self.probes[probe][encoder] = job["result"]["top1"]

    def fill_collection(self, images: Sequence[LocalImage]) -> None:
        """Promote the trained encoder, upload images to search in, and index them for the baselines too."""
        self.client.set_alias("production", self.models["trained"])
        with self.stages.stage("images", f"upload and embed {len(images)} images") as update:
            for start in range(0, len(images), UPLOAD_IMAGES):
                part = images[start : start + UPLOAD_IMAGES]
                items = self.client.add_images(
                    [(image.path.name, image.content) for image in part],
                    collection=self.collection,
                    labels=[image.label for image in part],
                )
                failed = [item for item in items if item["status"] == "failed"]
                if failed:
                    raise DemoFailed(f"{len(failed)} images were refused, the first: {failed[0]}")
                update(start + len(part), len(images))
        for encoder in ("random", "pixels"):
            self.run_job("index", f"index for {encoder}", "index", model_id=self.models[encoder])

    def precision_at_k(self) -> dict[str, float]:
        """Share of the K nearest neighbours that have the query's label, for each encoder, over all images."""
        collection_id = next(c["id"] for c in self.client.pages("/v1/collections") if c["name"] == self.collection)
        images = list(self.client.pages("/v1/images", collection=self.collection, limit=100))
        labels = {image["id"]: image["label"] for image in images}
        precision = {}
        for encoder in ENCODERS:
            with self.stages.stage("search", f"search with {encoder}") as update:
                hits: Counter[bool] = Counter()
                for start in range(0, len(images), UPLOAD_IMAGES):
                    part = images[start : start + UPLOAD_IMAGES]
                    found = self.client.search(
                        queries=[{"image_id": image["id"]} for image in part],
                        collection=collection_id,
                        k=K,
                        model=self.models[encoder],
                    )
                    for image, result in zip(part, found["results"], strict=True):
                        hits.update(labels[hit["id"]] == image["label"] for hit in result["items"])
                    update(start + len(part), len(images))
                precision[encoder] = hits[True] / hits.total()
        return precision


def _gallery(source: Path) -> list[LocalImage]:
    """Images to search in: the test split, or else an even pick; at most MAX_GALLERY with distinct content."""
    distinct = {image.content: image for image in read_images(source)}.values()
    images = [image for image in distinct if image.is_test] or list(distinct)
    step = max(1, -(-len(images) // MAX_GALLERY))
    return images[::step]


def _sample_data(folder: Path) -> Path:
    """CIFAR-10 where there is a network, else a generated set."""
    archive = folder / "sample.tar.gz"
    command = [sys.executable, "-m", "trainer.sample_data", str(archive)]
    line = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]  # noqa: S603  # our own module
    if json.loads(line)["source"] == "generated":
        console.print("[yellow]No network: these are generated images (shapes and textures), not photographs.[/yellow]")
    else:
        console.print("CIFAR-10, a balanced part of it, from the network.")
    return archive


@contextmanager
def running_service(data_dir: Path, port: int) -> Iterator[str]:
    """The embedded stack for as long as the demo runs; its address."""
    command = [sys.executable, "-m", "service.cli", "up", "--data-dir", str(data_dir), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603  # our own module
    try:
        assert process.stdout
        for line in process.stdout:
            address = next((word for word in line.split() if word.startswith("http://")), None)
            if address:
                yield address
                break
        else:
            raise DemoFailed("the service did not start; its own message is above")
    finally:
        process.terminate()
        process.wait()


def _has_classes(dataset: JSON) -> bool:
    return len(dataset["classes"]) >= 2 and min(dataset["splits"]["train"]["per_class"]) >= 2


def _table(demo: Demo, dataset: JSON, job: JSON, summary: JSON) -> Table:
    table = Table(title=f"{dataset['num_images']:,} images, {len(dataset['classes'])} classes")
    table.add_column("")
    for name in ("(a) trained", "(b) random initialisation", "(c) raw pixels"):
        table.add_column(name, justify="right")
    for text, key in (
        ("linear probe, top-1", "linear_top1"),
        ("kNN probe, top-1", "knn_top1"),
        (f"search, same-class precision@{K}", "precision_at_10"),
    ):
        if summary[key]:
            table.add_row(text, *(f"{summary[key][encoder]:.3f}" for encoder in ENCODERS))
    table.add_section()
    table.add_row("pretraining, images/s", f"{job['result']['images_per_second']:,.0f}", "", "")
    table.add_row("ONNX parity, least cosine", f"{summary['parity_cosine']:.6f}", "", "")
    table.add_section()
    for stage, seconds in demo.stages.seconds.items():
        table.add_row(f"{stage}, seconds", f"{seconds:.1f}", "", "")
    return table


def _run(client: Client, archive: Path) -> JSON:
    columns = (TextColumn("{task.description:<36}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[detail]}"), console=console) as progress:
        demo = Demo(client, Stages(progress))
        dataset = demo.upload_dataset(archive)
        job = demo.pretrain(dataset)
        has_classes = _has_classes(dataset)
        if has_classes:
            demo.probe(dataset)
        demo.fill_collection(_gallery(archive))
        precision = demo.precision_at_k() if has_classes else {}
    if not has_classes:
        console.print("Probes and precision need two folders (classes) with two training images each: left out.")
    summary = {
        "linear_top1": demo.probes["linear"],
        "knn_top1": demo.probes["knn"],
        "precision_at_10": precision,
        "parity_cosine": client.get(f"/v1/models/{demo.models['trained']}")["parity_cosine"],
        "seconds": demo.stages.seconds,
    }
    console.print(_table(demo, dataset, job, summary))
    return summary


def _check(summary: JSON) -> None:
    for key in ("linear_top1", "knn_top1", "precision_at_10"):
        if not summary[key]:
            continue
        trained, random = summary[key]["trained"], summary[key]["random"]
        if trained <= random:
            raise DemoFailed(f"{key}: the trained encoder ({trained:.3f}) is not above its random start ({random:.3f})")


DataOption = Annotated[
    Path | None, typer.Option(exists=True, help="Folder or archive of your own images; folders are classes.")
]
DataDirOption = Annotated[Path, typer.Option(help="Where the service keeps its data.")]
PortOption = Annotated[int, typer.Option(help="Port of the API while the demo runs.")]


def demo(data: DataOption = None, data_dir: DataDirOption = Path("simclr-data"), port: PortOption = 8000) -> None:
    """Run everything once: upload, pretrain, probe, export, promote, index, search."""
    try:
        with tempfile.TemporaryDirectory() as temporary:
            source = data or _sample_data(Path(temporary))
            if source.is_dir():
                archive = Path(temporary) / "images.tar"
                pack_folder(source, archive)
                source = archive
            with running_service(data_dir, port) as address, Client(address) as client:
                summary = _run(client, source)
                _check(summary)
        console.print(f"The model is in {data_dir}; `simclr up --data-dir {data_dir}` serves it.")
    except (DemoFailed, JobFailed, ApiError, ValueError) as error:
        console.print(f"[red]{error}[/red]")
        raise typer.Exit(1) from error
    print(json.dumps(summary))  # noqa: T201  # the machine-readable result, unwrapped
