"""How often does a copy of a photograph find its original, by what happened to the copy?

    python benchmarks/photo_copies.py --photos photos.tar [--data archive] [--out FILE]
    python benchmarks/photo_copies.py --photos photos.tar --url http://127.0.0.1:8000

The first form starts a service of its own in a temporary folder and pretrains there on --data, by default on the
photographs themselves (no label and no copy is used). The second takes the production model of a running service, and
leaves a model and a collection there. Either way the photographs are uploaded, and each copy of each is searched with,
over HTTP, by (a) that model, (b) the same network as it was initialised, and (c), beside the service, by a perceptual
hash of 64 bits. A hash that ties with others counts as behind them. Ends with one JSON line; exits with 1 if a
photograph doesn't find itself, or fewer than 95 of 100 copies of half the size their original by the model.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distortions import DISTORTIONS, copies_of
from machine import device_name, versions
from perceptual_hash import hash_of, hashes_of, rank
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import binomtest

from service.client import JSON, Client
from service.demo import archive_of, running_service
from service.local_files import LocalImage, batches, read_images

PRESET = "cpu-small"
METHODS = {"trained": "(a) trained", "random": "(b) random initialisation", "hash": "(c) perceptual hash"}
ORIGINAL, EASY = "the photograph itself", "half the size"
FLOOR = 0.95
K = 10

Ranks = list[int | None]  # of the originals; None: not among the first K


def pretrained(client: Client, archive: Path, num_seen: int, seed: int) -> JSON:
    """Upload the images and pretrain until the network has seen so many, with the preset; the job."""
    dataset = client.create_dataset(archive, on_invalid="skip")
    client.wait_for_job(dataset["job_id"])
    num_images = client.get(f"/v1/datasets/{dataset['id']}")["splits"]["train"]["num_images"]
    default = client.get("/v1/recipes")["presets"][PRESET]["recipe"]["batch_size"]
    epochs = max(1, num_seen // num_images)
    schedule = {"epochs": epochs, "warmup_epochs": epochs / 10}
    recipe = {"preset": PRESET, "seed": seed, "batch_size": min(default, num_images // 2), "schedule": schedule}
    job = client.submit("pretrain", dataset_id=dataset["id"], recipe=recipe)
    return client.wait_for_job(job["id"])


def random_twin(client: Client, dataset_id: str, recipe: JSON) -> str:
    """The id of a model that is the recipe's network at its start, with vectors of all stored images."""
    untrained = recipe | {"schedule": recipe["schedule"] | {"epochs": 0, "warmup_epochs": 0}}
    job = client.wait_for_job(client.submit("pretrain", dataset_id=dataset_id, recipe=untrained)["id"])
    model_id: str = job["result"]["model_id"]
    client.wait_for_job(client.submit("index", model_id=model_id)["id"])
    return model_id


def upload(client: Client, photos: list[LocalImage]) -> tuple[str, list[str]]:
    """Store the photographs in a new collection; its name and their ids."""
    collection = f"copies-{time.strftime('%Y%m%d-%H%M%S')}"
    ids: list[str] = []
    for batch in batches(photos):
        part = [(photo.path.name, photo.content) for photo in batch]
        ids += [item["id"] for item in client.add_images(part, collection=collection)]
    return collection, ids


def ranks_of(
    client: Client, models: dict[str, str], collection: str, ids: list[str], photos: list[LocalImage]
) -> dict[str, dict[str, Ranks]]:
    """By distortion and method, the place of each photograph among what its copy finds."""
    hashes = hashes_of(photo.content for photo in photos)
    ranks: dict[str, dict[str, Ranks]] = {name: {method: [] for method in METHODS} for name in (ORIGINAL, *DISTORTIONS)}
    for number, (photo, id_) in enumerate(
        track(list(zip(photos, ids, strict=True)), "search", console=Console(stderr=True))
    ):
        for name, copy in {ORIGINAL: photo.content, **copies_of(photo.content)}.items():
            for method, model in models.items():
                hits = client.search_by_image("copy.jpg", copy, collection=collection, k=K, model=model)
                found = [hit["id"] for hit in hits]
                ranks[name][method].append(found.index(id_) + 1 if id_ in found else None)
            place = rank(hashes, hash_of(copy), number)
            ranks[name]["hash"].append(place if place <= K else None)
    return ranks


def rates(ranks: Ranks) -> JSON:
    """The share of copies whose original is the first hit, with Wilson's 95% interval, or among K."""
    first = sum(rank == 1 for rank in ranks)
    interval = binomtest(first, len(ranks)).proportion_ci(method="wilson")
    among = sum(rank is not None for rank in ranks)
    return {
        "n": len(ranks),
        "at_1": first / len(ranks),
        "interval": [round(interval.low, 4), round(interval.high, 4)],
        f"at_{K}": among / len(ranks),
    }


def table_of(results: dict[str, dict[str, JSON]]) -> Table:
    """Hit rate at 1 with its interval, and at K."""
    table = Table(title=f"original found first (95% interval), among {K}")
    table.add_column("copy")
    for title in METHODS.values():
        table.add_column(title, justify="right")
    for name, by_method in results.items():
        table.add_row(name, *(_cell(by_method[method]) for method in METHODS))
    return table


def _cell(rate: JSON) -> str:
    low, high = rate["interval"]
    return f"{rate['at_1']:.1%} ({100 * low:.0f}-{100 * high:.0f}), {rate[f'at_{K}']:.1%}"


def faults_of(results: dict[str, dict[str, JSON]]) -> list[str]:
    """What must not be, in words."""
    lost = [METHODS[name] for name in ("trained", "random") if results[ORIGINAL][name]["at_1"] < 1]
    faults = [f"{name}: a photograph does not find itself" for name in lost]
    if results[EASY]["trained"]["at_1"] < FLOOR:
        faults.append(f"{METHODS['trained']}: fewer than {FLOOR:.0%} of the copies of {EASY} find their original")
    return faults


def measure(client: Client, model: JSON, photos: list[LocalImage]) -> JSON:
    """Hit rates by distortion and method, of a model that is in production."""
    collection, ids = upload(client, photos)
    models = {"trained": model["id"], "random": random_twin(client, model["dataset_id"], model["recipe"])}
    ranks = ranks_of(client, models, collection, ids, photos)
    return {name: {method: rates(found) for method, found in of_name.items()} for name, of_name in ranks.items()}


@contextmanager
def model_in_production(options: argparse.Namespace) -> Iterator[tuple[Client, JSON]]:
    """A client, and the model that serves: that of the service at --url, or one that is trained now."""
    if options.url:
        with Client(options.url) as client:
            production = next((a for a in client.pages("/v1/aliases") if a["name"] == "production"), None)
            if production is None:
                sys.exit(f"no model is in production at {options.url}")
            yield client, client.get(f"/v1/models/{production['model_id']}")
        return
    with tempfile.TemporaryDirectory(prefix="copies-") as folder:
        archive = archive_of(options.data or options.photos, Path(folder), Path(folder))
        with running_service(Path(folder) / "service", options.port) as address, Client(address) as client:
            job = pretrained(client, archive, options.num_seen, options.seed)
            client.set_alias("production", job["result"]["model_id"])
            yield client, client.get(f"/v1/models/{job['result']['model_id']}")


def main() -> int:
    """Run the benchmark; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder or archive of photographs")
    parser.add_argument("--data", type=Path, help="folder or archive to pretrain on; default: the photographs")
    parser.add_argument("--num-seen", type=int, default=100_000, help="images that training sees, repetitions counted")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--url", help="of a running service, whose production model is taken")
    parser.add_argument("--port", type=int, default=8000, help="of the service that is started")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    photos = list(read_images(options.photos))
    with model_in_production(options) as (client, model):
        results = measure(client, model, photos)
    Console(stderr=True, width=140).print(table_of(results))
    report: dict[str, Any] = {
        "photos": len(photos),
        "pretrained_on": None if options.url else (options.data or options.photos).name,
        "recipe": model["recipe"],
        "hit_rates": results,
        "device": device_name(),
        "versions": versions("onnxruntime", "pillow", "scipy"),
        "faults": faults_of(results),
    }
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report))
    return 1 if report["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
