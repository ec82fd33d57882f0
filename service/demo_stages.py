"""The stages of the demo, each with its progress bar: what it does over HTTP, and how long it takes."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from service.client import JSON, Client
from service.local_files import LocalImage, batches

RECIPE = "cpu-small"
ENCODERS = ("trained", "random", "pixels")
SEARCH_QUERIES = 200  # in one request
K = 10

Update = Callable[[float, float, str], None]  # done, total, detail


class DemoFailed(Exception):
    """A stage did not do what it must."""


def progress_on(console: Console) -> Progress:
    """The bars of the stages; without a terminal there are none."""
    columns = (TextColumn("{task.description:<36}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    detail = TextColumn("{task.fields[detail]}")
    return Progress(*columns, detail, console=console, disable=not console.is_terminal)


@dataclass
class Stages:
    """Shows a progress bar a stage, or a line at its end where there is no terminal, and notes how long each took."""

    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, text: str) -> Iterator[Update]:
        """Run a stage; yields the function that moves its bar."""
        bar = self.progress.add_task(text, total=None, detail="")
        started = time.monotonic()

        def update(done: float, total: float, detail: str) -> None:
            self.progress.update(bar, completed=done, total=total, detail=detail)

        yield update
        elapsed = time.monotonic() - started
        self.seconds[name] = round(self.seconds.get(name, 0) + elapsed, 1)
        self.progress.update(bar, completed=1, total=1)
        if self.progress.disable:
            self.progress.console.print(f"{text}: {elapsed:.1f} s")


def job_progress(update: Update) -> Callable[[JSON], None]:
    """Moves a stage's bar as its job goes on."""

    def show(job: JSON) -> None:
        progress = job["progress"] or {}
        if not progress.get("steps"):
            update(0, 1, progress.get("stage") or job["status"])
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
        self.refused: list[JSON] = []

    def run_job(self, stage: str, text: str, kind: str, **fields: Any) -> JSON:
        """Submit a job and show it until it succeeded."""
        with self.stages.stage(stage, text) as update:
            job = self.client.submit(kind, **fields)
            return self.client.wait_for_job(job["id"], job_progress(update))

    def upload_dataset(self, archive: Path) -> JSON:
        """Upload, validate and pack the images."""
        with self.stages.stage("dataset", "upload and validate the images") as update:
            dataset = self.client.create_dataset(archive, on_invalid="skip")
            self.client.wait_for_job(dataset["job_id"], job_progress(update))
            return self.client.get(f"/v1/datasets/{dataset['id']}")

    def pretrain(self, dataset: JSON) -> JSON:
        """Pretrain, and export the two baselines: no epochs, and no network. Returns the pretraining job."""
        num_images = dataset["splits"].get("train", {"num_images": 0})["num_images"]
        if num_images < 2:
            raise DemoFailed(
                "the images have fewer than 2 to train on; leave out the folders test/ or val/, or add train/"
            )
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

    def fill_collection(self, images: Iterable[LocalImage], num_images: int) -> None:
        """Promote the trained encoder, upload images to search in, and index them for the baselines too."""
        self.client.set_alias("production", self.models["trained"])
        items: list[JSON] = []
        with self.stages.stage("images", f"upload and embed {num_images} images") as update:
            for part in batches(images):
                items += self.client.add_images(
                    [(image.path.name, image.content) for image in part],
                    collection=self.collection,
                    labels=[image.label for image in part],
                )
                update(len(items), num_images, "")
        self.refused = [item for item in items if item["status"] == "failed"]
        if len(self.refused) == len(items):
            raise DemoFailed(f"none of {len(items)} images could be stored, the first: {items[:1]}")
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
                for start in range(0, len(images), SEARCH_QUERIES):
                    part = images[start : start + SEARCH_QUERIES]
                    found = self.client.search(
                        queries=[{"image_id": image["id"]} for image in part],
                        collection=collection_id,
                        k=K,
                        model=self.models[encoder],
                    )
                    for image, result in zip(part, found["results"], strict=True):
                        hits.update(labels[hit["id"]] == image["label"] for hit in result["items"])
                    update(start + len(part), len(images), "")
                precision[encoder] = hits[True] / max(1, hits.total())
        return precision
