"""Does a resized, re-encoded copy of a photograph find its original first?

    python benchmarks/photo_copies.py --photos photos.tar [--data-dir simclr-data]

Starts the service on a data folder whose production model was made by `make demo`, uploads the photographs into a
new collection and searches with a copy of each: scaled by --scale, saved as JPEG of --quality. Ends with one JSON line;
exits with 1 when fewer than 95 of 100 copies find their original first.
"""

import argparse
import io
import json
import statistics
import sys
import time
from pathlib import Path

from PIL import Image
from rich.progress import track

from service.client import Client
from service.demo import running_service
from service.local_files import LocalImage, batches, read_images

FLOOR = 0.95


def copy_of(content: bytes, scale: float, quality: int) -> bytes:
    """A JPEG of the image, smaller."""
    with Image.open(io.BytesIO(content)) as opened:
        image = opened.convert("RGB")
    smaller = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    smaller.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def upload(client: Client, photos: list[LocalImage], collection: str) -> list[str]:
    """Store the photographs; their ids."""
    ids = []
    for batch in track(list(batches(photos)), "upload"):
        part = [(photo.path.name, photo.content) for photo in batch]
        ids += [item["id"] for item in client.add_images(part, collection=collection)]
    return ids


def measure(client: Client, photos: list[LocalImage], scale: float, quality: int) -> dict[str, object]:
    """Upload, search with each copy, count."""
    collection = f"copies-{time.strftime('%Y%m%d-%H%M%S')}"
    started = time.monotonic()
    ids = upload(client, photos, collection)
    upload_seconds = time.monotonic() - started
    ranks, scores, milliseconds = [], [], []
    for photo, id_ in track(list(zip(photos, ids, strict=True)), "search"):
        copy = copy_of(photo.content, scale, quality)
        started = time.monotonic()
        hits = client.search_by_image("copy.jpg", copy, collection=collection, k=10)
        milliseconds.append(1000 * (time.monotonic() - started))
        found = [hit["id"] for hit in hits]
        ranks.append(found.index(id_) + 1 if id_ in found else None)
        scores.append(next((hit["score"] for hit in hits if hit["id"] == id_), 0.0))
    return {
        "photos": len(photos),
        "found_first": sum(rank == 1 for rank in ranks) / len(ranks),
        "found_in_ten": sum(rank is not None for rank in ranks) / len(ranks),
        "score_median": round(statistics.median(scores), 4),
        "upload_seconds": round(upload_seconds, 1),
        "search_ms_median": round(statistics.median(milliseconds), 1),
    }


def main() -> int:
    """Run the benchmark; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder or archive of photographs")
    parser.add_argument("--data-dir", type=Path, default=Path("simclr-data"))
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--scale", type=float, default=0.5)
    parser.add_argument("--quality", type=int, default=60)
    arguments = parser.parse_args()
    photos = list(read_images(arguments.photos))
    with running_service(arguments.data_dir, arguments.port) as address, Client(address) as client:
        result = measure(client, photos, arguments.scale, arguments.quality)
    print(json.dumps(result))
    return 0 if float(str(result["found_first"])) >= FLOOR else 1


if __name__ == "__main__":
    sys.exit(main())
