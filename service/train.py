"""One's own images all the way: upload -> pretrain for a while -> promote -> store -> search."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from service.client import JSON, ApiError, ReadyDataset
from service.client.results import Hit
from service.local_files import read_images
from service.production import PRODUCTION
from service.stages import StageFailed
from service.walk import Walk, num_training_images

# images/s, as each preset says of the machine it is for: cpu-small of a core, the others of a GPU.
RATES = {"cpu-small": 400, "cifar10": 20_000, "imagenet-256": 2_000}
PHOTO_RATE = 160  # of cpu-small, whose step takes 2 ms: to cut two views out of a photograph takes twice as long
PHOTO_SIDE = 64  # images with a longer shorter side lose too much at 32 pixels, where there is a GPU for more
MAX_EPOCHS = 1000  # the paper's longest
NUM_HITS = 5


@dataclass(frozen=True)
class Plan:
    """What to train, and how long that should take; None where nothing is known of the preset's speed."""

    recipe: JSON
    minutes: float | None


@dataclass(frozen=True)
class Trained:
    """What came of it: the model's job, the collection, and what is like one of its images."""

    job_id: str
    model_id: str
    num_stored: int
    query: str
    hits: list[Hit]


class NotStored(StageFailed):
    """The model is trained and serves, and the images are not there to search in."""


def choose_preset(dataset: ReadyDataset, *, has_gpu: bool) -> str:
    """What suits the images and the machine."""
    if not has_gpu:
        return "cpu-small"
    return "imagenet-256" if _are_photos(dataset) else "cifar10"


def images_per_second(dataset: ReadyDataset, preset: str, *, num_cores: int) -> int:
    """How fast a preset of RATES trains on such images."""
    if preset != "cpu-small":
        return RATES[preset]
    return num_cores * (PHOTO_RATE if _are_photos(dataset) else RATES[preset])


def _are_photos(dataset: ReadyDataset) -> bool:
    side: int = min(dataset["image_sizes"]["median"])
    return side > PHOTO_SIDE


def plan_epochs(num_images: int, rate: int, *, minutes: float) -> tuple[int, float]:
    """How many epochs at `rate` images/s fit into the time, 1 to MAX_EPOCHS, and the minutes that they take."""
    epochs = max(1, min(MAX_EPOCHS, round(minutes * 60 * rate / num_images)))
    return epochs, epochs * num_images / rate / 60


def plan(walk: Walk, dataset: ReadyDataset, *, preset: str | None, minutes: float, num_cores: int) -> Plan:
    """The recipe: the preset, or one that suits, for as many epochs as fit into the time.

    A preset of unknown speed keeps its own epochs. Raises StageFailed when the images are too few.
    """
    slots = [node["slots"] for node in walk.client.get_system()["nodes"] if node["is_alive"]]
    chosen = preset or choose_preset(dataset, has_gpu=any(kinds.get("cuda") for kinds in slots))
    recipe = walk.recipe(dataset, chosen)
    if chosen not in RATES:
        return Plan(recipe, None)
    rate = images_per_second(dataset, chosen, num_cores=num_cores)
    epochs, estimate = plan_epochs(num_training_images(dataset), rate, minutes=minutes)
    return Plan({**recipe, "schedule": {"epochs": epochs, "warmup_epochs": min(10, epochs // 10)}}, estimate)


def train(walk: Walk, source: Path, dataset: ReadyDataset, planned: Plan) -> Trained:
    """Pretrain, have the model serve, store the images of `source`, and search with the first of them."""
    job = walk.run_job("pretrain", "pretrain SimCLR", "pretrain", dataset_id=dataset["id"], recipe=planned.recipe)
    model_id = job["result"]["model_id"]
    walk.client.set_alias(PRODUCTION, model_id)
    num_images = dataset["num_images"] + dataset["num_duplicates"]
    try:
        stored = walk.store_images(read_images(source), num_images)
    except (ApiError, StageFailed) as error:
        raise NotStored(str(error)) from error
    query = stored[0]
    assert query["id"] is not None
    hits = walk.client.get_neighbors(query["id"], k=NUM_HITS, collection=walk.collection)
    return Trained(job["id"], model_id, len(stored), query["filename"] or query["id"], hits)


def collection_name(source: Path) -> str:
    """The folder's name as one that a collection may have."""
    stem = PurePosixPath(source.resolve().name).stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).lstrip("._-")[:64] or "images"
