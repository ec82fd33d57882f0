"""What commands that go the whole way do over HTTP: upload, run jobs, store images; each a stage."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from service.client import JSON, ApiError, Client, ReadyDataset, SucceededJob
from service.client.results import UploadedImage
from service.local_files import LocalImage, batches
from service.stages import StageFailed, Stages, job_progress


class Walk:
    """The stages, over one client, with one collection for the images."""

    def __init__(self, client: Client, stages: Stages, collection: str) -> None:
        self.client = client
        self.stages = stages
        self.collection = collection
        self.refused: list[UploadedImage] = []

    def run_job(self, stage: str, text: str, kind: str, **fields: Any) -> SucceededJob:
        """Submit a job and show it until it succeeded."""
        with self.stages.stage(stage, text) as update:
            job = self.client.submit(kind, **fields)
            try:
                return self.client.wait_for_job(job["id"], job_progress(update))
            except KeyboardInterrupt:  # else the next one would wait behind it
                with suppress(ApiError, httpx.HTTPError):  # it has just ended, or the service has
                    self.client.cancel_job(job["id"])
                    self.stages.progress.console.print(f"{job['id']} was told to stop")
                raise

    def upload_dataset(self, archive: Path) -> ReadyDataset:
        """Upload, validate and pack the images."""
        with self.stages.stage("dataset", "upload and validate the images") as update:
            dataset = self.client.create_dataset(archive, on_invalid="skip")
            return self.client.wait_for_dataset(dataset["id"], job_progress(update))

    def recipe(self, dataset: ReadyDataset, preset: str) -> JSON:
        """The preset with a batch that the data set's images suffice for. Raises StageFailed when nothing does."""
        num_images = num_training_images(dataset)
        if num_images < 2:
            raise StageFailed(
                "the images have fewer than 2 to train on; leave out the folders test/ or val/, or add train/"
            )
        presets = self.client.get_recipes()["presets"]
        if preset not in presets:
            raise StageFailed(f"preset: one of {', '.join(presets)}, not {preset!r}")
        batch_size = presets[preset]["recipe"]["batch_size"]
        smaller = {"batch_size": max(2, num_images // 2)} if num_images < 2 * batch_size else {}
        return {"preset": preset, **smaller}

    def store_images(self, images: Iterable[LocalImage], num_images: int) -> list[UploadedImage]:
        """Upload images into the collection; those that are stored. Raises StageFailed when none is."""
        items: list[UploadedImage] = []
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
            raise StageFailed(f"none of {len(items)} images could be stored, the first: {items[:1]}")
        return [item for item in items if item["status"] != "failed"]


def num_training_images(dataset: ReadyDataset) -> int:
    """How many images of a data set are trained on."""
    number: int = dataset["splits"].get("train", {"num_images": 0})["num_images"]
    return number
