"""The stages of the demo: what it does over HTTP."""

import time
from collections import Counter
from collections.abc import Iterable

from service.client import Client, ReadyDataset, SucceededJob
from service.local_files import LocalImage
from service.stages import Stages
from service.walk import Walk

RECIPE = "cpu-small"
ENCODERS = ("trained", "random", "pixels")
SEARCH_QUERIES = 200  # in one request
K = 10


class Demo(Walk):
    """The stages, over one client."""

    def __init__(self, client: Client, stages: Stages) -> None:
        super().__init__(client, stages, f"demo-{time.strftime('%Y%m%d-%H%M%S')}")
        self.models: dict[str, str] = {}
        self.probes: dict[str, dict[str, float]] = {"linear": {}, "knn": {}}

    def pretrain(self, dataset: ReadyDataset) -> SucceededJob:
        """Pretrain, and export the two baselines: no epochs, and no network. Returns the pretraining job."""
        recipe = self.recipe(dataset, RECIPE)
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

    def probe(self, dataset: ReadyDataset) -> None:
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
        self.store_images(images, num_images)
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
