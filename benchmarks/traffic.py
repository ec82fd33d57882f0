"""Clients of an API that do all that people do with one, and what people shouldn't do.

Each operation says which answers it may get; 429 is always one of them. A broken connection counts as status 0.
"""

import asyncio
import io
import json
import random
import tarfile
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import numpy as np

from tests.models.image_files import encode, noise

SIDE = 32  # of the model's input
SIZES = (32, 96, 256)
IMAGES = [encode(noise(size, size), format_) for size in SIZES for format_ in ("png", "jpeg", "webp")]
COLLECTION = "mixed"
MAX_PAUSE_SECONDS = 0.15
SLOW_PIECES, SLOW_PAUSE_SECONDS = 10, 0.2
STREAM_SECONDS = 1.0
MIN_KNOWN, MAX_KNOWN = 50, 300  # stored images; beyond, the oldest is deleted with an upload
BUSY = 429


@dataclass
class Outcome:
    """What became of an operation's requests."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    num_unexpected: int = 0

    def percentile(self, q: float) -> float:
        """Of the seconds until an answer."""
        return float(np.percentile(self.seconds, q)) if self.seconds else 0.0

    def as_json(self) -> dict[str, Any]:
        """As it stands in the result."""
        statuses = {str(status): number for status, number in sorted(self.statuses.items())}
        p50, p99 = (round(self.percentile(q), 4) for q in (50, 99))
        return {"statuses": statuses, "unexpected": self.num_unexpected, "p50_seconds": p50, "p99_seconds": p99}


@dataclass(frozen=True)
class Operation:
    """A method of `Traffic` by its weight, and the statuses that it may have."""

    weight: int
    run: Callable[["Traffic", random.Random], Awaitable[int]]
    expected: frozenset[int]


class Traffic:
    """The clients, and what they know of each other's images."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._http = httpx.AsyncClient(base_url=url, timeout=60, trust_env=False)
        self._known: deque[str] = deque()
        self._numbers = count()
        self.outcomes = {name: Outcome() for name in OPERATIONS}

    async def __aenter__(self) -> Self:
        for _ in range(8):
            await self.upload(random.Random(0))  # noqa: S311  # no secret; so that searches find something
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def client(self, seed: int, until: float) -> None:
        """Do one thing after another until an instant of the monotonic clock."""
        draw = random.Random(seed)  # noqa: S311  # what comes next
        names = list(OPERATIONS)
        weights = [operation.weight for operation in OPERATIONS.values()]
        while time.monotonic() < until:
            (name,) = draw.choices(names, weights)
            began = time.monotonic()
            try:
                status = await OPERATIONS[name].run(self, draw)
            except (httpx.TransportError, ConnectionError, asyncio.IncompleteReadError):
                status = 0
            outcome = self.outcomes[name]
            outcome.statuses[status] += 1
            outcome.seconds.append(time.monotonic() - began)
            outcome.num_unexpected += status not in OPERATIONS[name].expected | {BUSY}
            await asyncio.sleep(draw.uniform(0, MAX_PAUSE_SECONDS))

    def _images(self, draw: random.Random) -> list[bytes]:
        """One to four images that nobody has sent before: what stands behind an image is no part of it."""
        return [draw.choice(IMAGES) + next(self._numbers).to_bytes(8) for _ in range(draw.randint(1, 4))]

    async def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        return await self._http.request(method, path, **arguments)

    async def embed(self, draw: random.Random) -> int:
        """Embed images in one of the formats."""
        accept = draw.choice(("application/json", "application/x-npy", "application/vnd.apache.arrow.stream"))
        files = [("files", ("a", content)) for content in self._images(draw)]
        return (await self._send("POST", "/v1/embeddings", files=files, headers={"Accept": accept})).status_code

    async def search_by_file(self, draw: random.Random) -> int:
        """Search by an image that isn't stored."""
        form = {"collection": COLLECTION, "k": "10"}
        files = {"file": ("a", self._images(draw)[0])}
        return (await self._send("POST", "/v1/search", data=form, files=files)).status_code

    async def search_by_id(self, draw: random.Random) -> int:
        """Search by a stored image, with a filter that is new each time."""
        above = {"op": "range", "field": "metadata.number", "gte": draw.random()}
        question = {"collection": COLLECTION, "image_id": self._any(draw), "k": 10, "filter": above}
        return (await self._send("POST", "/v1/search", json=question)).status_code

    async def upload(self, draw: random.Random) -> int:
        """Store images; of too many the oldest is deleted."""
        form = {"collection": COLLECTION, "metadata": json.dumps({"number": draw.random()})}
        files = [("files", ("a", content)) for content in self._images(draw)]
        answer = await self._send("POST", "/v1/images", data=form, files=files)
        if answer.is_success:
            self._known.extend(item["id"] for item in answer.json()["items"])
        while len(self._known) > MAX_KNOWN:
            await self._send("DELETE", f"/v1/images/{self._known.popleft()}")
        return answer.status_code

    async def delete(self, draw: random.Random) -> int:
        """Delete the oldest image, in place of which there is a new one as long as they are few."""
        if len(self._known) < MIN_KNOWN:
            await self.upload(draw)
        return (await self._send("DELETE", f"/v1/images/{self._known.popleft()}")).status_code

    async def show(self, draw: random.Random) -> int:
        """An image, reduced."""
        path = f"/v1/images/{self._any(draw)}/content"
        return (await self._send("GET", path, params={"size": draw.choice(SIZES)})).status_code

    async def look(self, draw: random.Random) -> int:
        """A list or a page that someone looks at."""
        paths = (f"/v1/images?collection={COLLECTION}", "/v1/jobs", "/v1/models", "/v1/system", "/metrics", "/readyz")
        return (await self._send("GET", draw.choice(paths))).status_code

    async def job(self, _: random.Random) -> int:
        """Post a job, follow its events for a moment, cancel it."""
        (model,) = (await self._send("GET", "/v1/models")).json()["items"]
        posted = await self._send("POST", "/v1/jobs", json={"kind": "index", "model_id": model["id"]})
        if posted.status_code != httpx.codes.ACCEPTED:
            return posted.status_code
        path = f"/v1/jobs/{posted.json()['id']}"
        async with self._http.stream("GET", f"{path}/events", headers={"Accept": "text/event-stream"}) as events:
            await anext(events.aiter_bytes())
            await asyncio.sleep(STREAM_SECONDS)
        return (await self._send("POST", f"{path}/cancel")).status_code

    async def dataset(self, draw: random.Random) -> int:
        """Upload an archive, cancel the job that would unpack it, delete the data set."""
        files = {"file": ("a.tar", _archive(self._images(draw)))}
        made = await self._send("POST", "/v1/datasets", data={"name": "short-lived"}, files=files)
        if made.status_code != httpx.codes.ACCEPTED:
            return made.status_code
        await self._send("POST", f"/v1/jobs/{made.json()['job_id']}/cancel")
        return (await self._send("DELETE", f"/v1/datasets/{made.json()['id']}")).status_code

    async def nonsense(self, draw: random.Random) -> int:
        """A request that is refused."""
        method, path, arguments = draw.choice(NONSENSE)
        return (await self._send(method, path, **arguments)).status_code

    async def send_slowly(self, draw: random.Random) -> int:
        """Embed an image whose bytes come in small pieces."""
        body = _form_body(self._images(draw)[0])
        reader, writer = await self._connect()
        writer.write(_head(len(body)))
        for start in range(0, len(body), len(body) // SLOW_PIECES + 1):
            writer.write(body[start : start + len(body) // SLOW_PIECES + 1])
            await writer.drain()
            await asyncio.sleep(SLOW_PAUSE_SECONDS)
        status = int((await reader.readuntil(b"\r\n")).split(b" ", 2)[1])
        writer.close()
        return status

    async def go_away(self, draw: random.Random) -> int:
        """Begin, and close the connection: in the middle of the body, or before the answer."""
        body = _form_body(self._images(draw)[0])
        _, writer = await self._connect()
        writer.write(_head(len(body)) + body[: draw.choice((len(body) // 2, len(body)))])
        await writer.drain()
        await asyncio.sleep(draw.uniform(0, 0.05))
        writer.transport.abort()
        return 204  # nobody is there to be told anything

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(self._url)
        return await asyncio.open_connection(parts.hostname, parts.port)

    def _any(self, draw: random.Random) -> str:
        return draw.choice(self._known)


def _archive(contents: list[bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for number, content in enumerate(contents):
            member = tarfile.TarInfo(f"class/{number}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def _form_body(content: bytes) -> bytes:
    part = b'--mixed\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    return part + content + b"\r\n--mixed--\r\n"


def _head(length: int) -> bytes:
    lines = ("POST /v1/embeddings HTTP/1.1", "Host: mixed", "Content-Type: multipart/form-data; boundary=mixed")
    return "\r\n".join((*lines, f"Content-Length: {length}", "\r\n")).encode()


UNKNOWN = "0" * 26
NONSENSE: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("POST", "/v1/jobs", {"content": b'{"kind": ', "headers": {"Content-Type": "application/json"}}),
    ("POST", "/v1/jobs", {"json": {"kind": "pretrain", "dataset_id": f"ds_{UNKNOWN}", "recipe": {"los": {}}}}),
    ("POST", "/v1/embeddings", {"files": {"files": ("a.png", b"\x89PNG\r\n\x1a\nno image")}}),
    ("POST", "/v1/embeddings", {"json": {"input": "data:image/png;base64,!"}}),
    ("POST", "/v1/embeddings", {"content": b"x" * 100_000, "headers": {"Content-Type": "text/plain"}}),
    ("POST", "/v1/images", {"files": {"files": ("a.png", encode(noise(1, 4), "bmp"))}, "data": {"labels": "["}}),
    ("POST", "/v1/search", {"json": {"collection": "nowhere", "image_id": "0" * 64}}),
    ("GET", f"/v1/jobs/job_{UNKNOWN}", {}),
    ("GET", "/v1/jobs?cursor=%27;--", {}),
    ("PATCH", "/v1/jobs", {}),
    ("GET", "/nowhere", {}),
)

FOUND = frozenset({200, 404})  # another client may have deleted it
OPERATIONS: dict[str, Operation] = {
    "embed": Operation(30, Traffic.embed, frozenset({200})),
    "search by file": Operation(12, Traffic.search_by_file, frozenset({200})),
    "search by id": Operation(12, Traffic.search_by_id, FOUND),
    "upload": Operation(12, Traffic.upload, frozenset({200})),
    "delete": Operation(8, Traffic.delete, frozenset({204})),
    "show": Operation(8, Traffic.show, FOUND),
    "look": Operation(8, Traffic.look, frozenset({200})),
    "job": Operation(3, Traffic.job, frozenset({200, 202})),
    "data set": Operation(1, Traffic.dataset, frozenset({204})),
    "nonsense": Operation(5, Traffic.nonsense, frozenset({400, 404, 405, 415, 422})),
    "send slowly": Operation(1, Traffic.send_slowly, frozenset({200})),
    "go away": Operation(4, Traffic.go_away, frozenset({204})),
}
