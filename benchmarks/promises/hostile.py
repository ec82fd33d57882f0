"""Uploads that are meant to do harm, several at once: the memory of the API and its decoders, before a model."""

import base64
import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
from api_server import Server, running_api
from PIL import Image
from promises.ledger import Ledger

from tests.models.image_files import encode, noise
from tests.service.routes.hostile_files import FILES

NUM_CLIENTS = 6
FORM_FILES = 8
SAMPLE_SECONDS = 0.02
SIDE = 5000  # its square is the greatest number of pixels that is taken
NUM_LARGEST = 2  # forms of such images
LARGE = b"\x89PNG\r\n\x1a\n" + bytes(19 * 2**20)  # just below the limit of a file
NUM_LARGE_FILES, NUM_LARGE_URIS = (12, 6), (9, 1)  # in a body: as many as a request may have, and some that are let in
BODIES = 3  # of each kind
MAX_BYTES = 600e6

Request = tuple[str, dict[str, object]]  # a path, and what httpx.post gets


def measure(ledger: Ledger, folder: Path, database_url: str) -> None:
    """Send them, and enter the most that the API took, and its answers."""
    with running_api(folder, database_url) as server:
        with watched(server) as seen:
            statuses = flood(server, requests())
        good = [_post(server, _upload([encode(noise(24, 24, seed), "png")])) for seed in range(8)]
        with watched(server) as seen_of_largest:  # not hostile by its size: about this, nothing is promised
            flood(server, [_upload(largest())] * NUM_LARGEST)
    broken = sum(number for status, number in statuses.items() if status >= httpx.codes.INTERNAL_SERVER_ERROR)
    promise = f"memory of API and decoders under hostile uploads ({NUM_CLIENTS} at once)"
    ledger.at_most("hostile_memory_mb", promise, MAX_BYTES / 1e6, max(seen) / 1e6, "MB")
    ledger.none("hostile_5xx", "hostile uploads break nothing", broken, of=f"5xx of {statuses.total()}")
    ledger.none(
        "good_failed_after", "good ones are stored after them", sum(s != 200 for s in good), of=f"of {len(good)}"
    )
    ledger.note(
        hostile_statuses={str(status): number for status, number in sorted(statuses.items())},
        largest_images_memory_mb=round(max(seen_of_largest) / 1e6),
    )


def largest() -> list[bytes]:
    """Images with the greatest number of pixels that is taken."""
    kinds = (("RGB", "png"), ("RGBA", "png"), ("L", "png"), ("RGB", "webp"), ("RGB", "jpeg"))
    return [encode(Image.new(mode, (SIDE, SIDE)), format_) for mode, format_ in kinds]


def requests() -> list[Request]:
    """Every hostile file, and bodies up to what a request may have, and beyond."""
    files = [content for content, _ in FILES.values()]
    forms = [files[start : start + FORM_FILES] for start in range(0, len(files), FORM_FILES)]
    forms += [[LARGE] * number for number in NUM_LARGE_FILES for _ in range(BODIES)]
    uri = "data:image/png;base64," + base64.b64encode(LARGE).decode()
    bodies = [json.dumps({"input": [uri] * number}).encode() for number in NUM_LARGE_URIS for _ in range(BODIES)]
    bodies.append(b'{"input": ' + b"[" * 10**6)
    as_json = {"Content-Type": "application/json"}
    sent = [("/v1/embeddings", {"content": body, "headers": as_json}) for body in bodies]
    return [*map(_upload, forms), *sent]


def _upload(contents: list[bytes]) -> Request:
    files = [("files", (f"{i}.png", content, "image/png")) for i, content in enumerate(contents)]
    return "/v1/images", {"files": files}


def flood(server: Server, hostile: list[Request]) -> Counter[int]:
    """Send each, some at once, in an order that mixes them; the statuses, 0 for a connection that was closed."""
    random.Random(0).shuffle(hostile)  # noqa: S311  # no secret
    with ThreadPoolExecutor(NUM_CLIENTS) as pool:
        return Counter(pool.map(lambda request: _post(server, request), hostile))


def _post(server: Server, request: Request) -> int:
    path, arguments = request
    try:
        return httpx.post(server.url + path, timeout=120, trust_env=False, **arguments).status_code  # type: ignore[arg-type]
    except httpx.TransportError:  # refused before all of it was sent
        return 0


@contextmanager
def watched(server: Server) -> Iterator[list[int]]:
    """Memory of the server and its children, sampled as long as the block runs."""
    seen: list[int] = []
    stopped = threading.Event()

    def sample() -> None:
        while not stopped.wait(SAMPLE_SECONDS):
            try:
                seen.append(server.rss_bytes)
            except psutil.NoSuchProcess:  # a decoder was killed meanwhile
                continue

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield seen
    finally:
        stopped.set()
        thread.join()
