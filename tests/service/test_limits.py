"""The room that request bodies have together, by the middleware alone: an application that holds what it has read."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from service.core.settings import Settings
from service.limits import JSON_WEIGHT, SMALL_BYTES, BodyLimit

ROOM = 10 * SMALL_BYTES
FORM, JSON = "multipart/form-data; boundary=x", "application/json"
IMAGES, DATASETS, IMPORT = "/v1/images", "/v1/datasets", "/v1/collections/pets/import"


class Holder:
    """Reads a body in pieces of SMALL_BYTES, and answers when it is told to and the client is still there."""

    def __init__(self, max_request_pieces: int = 20) -> None:
        sizes = {"max_request_bytes": max_request_pieces * SMALL_BYTES, "max_archive_bytes": 20 * SMALL_BYTES}
        self.limit = BodyLimit(self, Settings.model_validate({"max_bytes_in_flight": ROOM, **sizes}))
        self.said = ""  # by the newest refusal
        self.may_answer = asyncio.Event()
        self.reads: asyncio.Queue[None] = asyncio.Queue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["more_body"]:
            pass
        self.reads.put_nowait(None)
        await self.may_answer.wait()
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    def post(
        self, num_pieces: int, *, path: str = IMAGES, kind: str | None = FORM, declared: bool = False
    ) -> Awaitable[int]:
        """The status that a body of so many pieces gets."""

        async def request() -> int:
            lengths = [(b"content-length", str(num_pieces * SMALL_BYTES).encode())] if declared else []
            kinds = [(b"content-type", kind.encode())] if kind else []
            scope = {"type": "http", "path": path, "headers": [*kinds, *lengths]}
            pieces = iter(range(num_pieces, 0, -1))
            statuses: list[int] = []

            async def receive() -> Message:
                left = next(pieces, 0)
                if not left:
                    return {"type": "http.disconnect"}
                return {"type": "http.request", "body": bytes(SMALL_BYTES), "more_body": left > 1}

            async def send(message: Message) -> None:
                statuses.append(message.get("status", 0))
                self.said = message.get("body", b"").decode()

            try:
                await self.limit(scope, receive, send)
            except HTTPException as error:
                self.said = error.detail
                says_when = (error.headers or {}).get("Retry-After") == "1"
                return error.status_code if says_when == (error.status_code == 429) else 0
            return statuses[0]

        return asyncio.ensure_future(request())


def holding(use: Callable[[Holder], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with asyncio.timeout(5):  # a body that should be refused would be held
            return await use(Holder())

    return asyncio.run(run())


async def held(holder: Holder) -> None:
    """Return when another request has been read."""
    await holder.reads.get()


def test_bodies_share_the_room() -> None:
    """What finds no room beside the others gets 429 with a time to come back, and has it once they are answered."""

    async def use(holder: Holder) -> list[int]:
        first = holder.post(6)
        await held(holder)
        refused = await holder.post(5)
        second = holder.post(4)
        await held(holder)
        holder.may_answer.set()
        return [refused, await first, await second, await holder.post(10)]

    assert holding(use) == [429, 200, 200, 200]


def test_a_small_body_always_has_room() -> None:
    """Neither a search nor a cancel waits for someone's upload."""

    async def use(holder: Holder) -> list[int]:
        upload = holder.post(10)
        await held(holder)
        search = holder.post(1, path="/v1/search", kind=JSON)
        await held(holder)
        holder.may_answer.set()
        return [await upload, await search]

    assert holding(use) == [200, 200]


@pytest.mark.parametrize(
    ("path", "kind", "most", "setting"),
    [
        (IMAGES, FORM, 10, "SIMCLR_MAX_BYTES_IN_FLIGHT"),
        (IMAGES, JSON, 10 // JSON_WEIGHT, "SIMCLR_MAX_BYTES_IN_FLIGHT"),
        ("/v1/jobs", "text/plain", 10 // JSON_WEIGHT, "SIMCLR_MAX_BYTES_IN_FLIGHT"),
        ("/v1/jobs", None, 10 // JSON_WEIGHT, "SIMCLR_MAX_BYTES_IN_FLIGHT"),
        (IMPORT, "application/vnd.apache.parquet", 20, "SIMCLR_MAX_REQUEST_BYTES"),
        (DATASETS, FORM, 21, "SIMCLR_MAX_ARCHIVE_BYTES"),  # a piece for what is beside the archive
    ],
)
@pytest.mark.parametrize("declared", [True, False])
def test_what_never_has_room_is_too_large(
    path: str, kind: str | None, most: int, setting: str, *, declared: bool
) -> None:
    """A form may fill the room, JSON a third of it, for it is in memory three times; the others go to the disk.

    The refusal names the setting that raises the bound.
    """

    async def use(holder: Holder) -> tuple[list[int], str]:
        holder.may_answer.set()
        statuses = [await holder.post(size, path=path, kind=kind, declared=declared) for size in (most, most + 1)]
        return statuses, holder.said

    statuses, said = holding(use)
    assert statuses == [200, 413]
    assert setting in said


def test_a_request_that_may_be_smaller_than_the_room_takes_room_too() -> None:
    """Of two bounds the lower one holds; what comes under it is weighed as any."""

    async def use() -> list[int]:
        async with asyncio.timeout(5):
            holder = Holder(max_request_pieces=5)
            too_large = await holder.post(6)
            assert "SIMCLR_MAX_REQUEST_BYTES" in holder.said
            json = holder.post(3, kind=JSON)
            await held(holder)
            refused = await holder.post(2)
            holder.may_answer.set()
            return [too_large, refused, await json, await holder.post(5)]

    assert asyncio.run(use()) == [413, 429, 200, 200]


def test_what_is_no_request_passes() -> None:
    """The server's start and end go by as they are."""
    passed: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        passed.extend((scope, receive, send))

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        passed.append(message)

    scope = {"type": "lifespan"}
    asyncio.run(BodyLimit(app, Settings())(scope, receive, send))
    assert passed == [scope, receive, send]


@pytest.mark.parametrize(("path", "kind"), [(DATASETS, FORM), (IMPORT, "application/vnd.apache.arrow.stream")])
def test_what_goes_to_the_disk_takes_no_room(path: str, kind: str) -> None:
    """An archive and a table take none from others, and need none."""

    async def use(holder: Holder) -> list[int]:
        streamed = holder.post(20, path=path, kind=kind)
        await held(holder)
        form = holder.post(10)
        await held(holder)
        another = holder.post(20, path=path, kind=kind)
        await held(holder)
        holder.may_answer.set()
        return [await streamed, await form, await another]

    assert holding(use) == [200, 200, 200]
