"""Clients that go away, and clients that wait no longer, over real sockets."""

import asyncio
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI, Request

from service.app import create_app
from service.attendance import Attendance
from service.core.db import Database
from service.core.settings import Settings
from service.core.storage import LocalStorage
from service.embedding import Embedding
from tests.service.conftest import serving_app
from tests.service.routes.gallery import picture
from tests.small_models import publish
from tests.trainer.images import slow_jpeg
from tests.waiting import wait_until

BOUNDARY = "frontier"


@dataclass
class Service:
    """A running API with one decoding process."""

    url: str
    app: FastAPI

    @property
    def embedding(self) -> Embedding:
        """What the API embeds with."""
        found: Embedding = self.app.state.services.embedding
        return found

    def end_decoding(self) -> None:
        """Kill what decodes an image that nobody waits for."""
        for decoder in self.embedding.decoding._decoders:
            if decoder._process is not None:
                decoder._process.process.kill()

    def connect(self, content: bytes, *headers: str) -> socket.socket:
        """A connection on which an image was sent to be embedded, and no answer read."""
        form = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'.encode()
        body = form + content + f"\r\n--{BOUNDARY}--\r\n".encode()
        lines = [
            "POST /v1/embeddings HTTP/1.1",
            "Host: here",
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
            f"Content-Length: {len(body)}",
            *headers,
        ]
        parts = urlsplit(self.url)
        assert parts.hostname
        assert parts.port
        connection = socket.create_connection((parts.hostname, parts.port))
        connection.sendall("\r\n".join([*lines, "\r\n"]).encode() + body)
        return connection


@pytest.fixture
def service(api_settings: Settings, database: Database) -> Iterator[Service]:
    """An API whose only decoder is soon busy."""
    settings = api_settings.model_copy(update={"num_decoders": 1, "decode_timeout_seconds": 60, "max_wait_seconds": 60})
    publish(database, LocalStorage(settings.storage_dir))
    app = create_app(settings)
    with serving_app(app) as url:
        yield Service(url, app)


def test_a_client_that_has_gone_frees_its_place(service: Service) -> None:
    """Its images leave at once, while they wait for a decoder and while one decodes them; others are served."""
    admission = service.embedding.admission
    decoding = service.connect(slow_jpeg())
    wait_until(lambda: admission.num_images == 1)
    waiting = service.connect(picture(1))
    wait_until(lambda: admission.num_images == 2)
    waiting.close()
    wait_until(lambda: admission.num_images == 1)
    decoding.close()
    wait_until(lambda: admission.num_images == 0)
    service.end_decoding()
    answer = httpx.post(f"{service.url}/v1/embeddings", files={"files": picture(2)})
    assert answer.status_code == 200


def test_a_deadline_drops_what_nobody_waits_for(service: Service) -> None:
    """503 with a code and a time to come back, as soon as the client's seconds are over, and its place is free."""
    admission = service.embedding.admission
    with service.connect(slow_jpeg()):
        wait_until(lambda: admission.num_images == 1)
        late = httpx.post(
            f"{service.url}/v1/embeddings", files={"files": picture(1)}, headers={"X-Request-Timeout": "0.2"}
        )
        assert (late.status_code, late.json()["code"]) == (503, "deadline_exceeded")
        assert late.json()["detail"] == "no answer within 0.2 seconds"
        assert late.headers["retry-after"] == "1"
        assert admission.num_images == 1
        service.end_decoding()


def test_what_is_under_way_is_answered_when_the_service_stops(api_settings: Settings, database: Database) -> None:
    """A stop waits for an image that is being decoded, and its client gets the vector."""
    settings = api_settings.model_copy(update={"num_decoders": 1, "decode_timeout_seconds": 60})
    publish(database, LocalStorage(settings.storage_dir))
    app = create_app(settings)
    with ThreadPoolExecutor(1) as pool:
        with serving_app(app) as url:
            files = {"files": slow_jpeg(100)}
            asked = pool.submit(httpx.post, f"{url}/v1/embeddings", files=files, timeout=60)
            wait_until(lambda: app.state.services.embedding.admission.num_images == 1)
            assert not asked.done()
        answer = asked.result()
    assert answer.status_code == 200
    assert len(answer.json()["data"][0]["embedding"]) > 0


def present_client() -> Attendance:
    """One that waits for a minute."""

    async def receive() -> dict[str, str]:
        await asyncio.Event().wait()
        raise AssertionError

    return Attendance(Request({"type": "http"}, receive), 60)


def test_the_work_s_own_timeouts_are_no_deadline() -> None:
    """They come through as they are."""

    async def work() -> None:
        raise TimeoutError("the database")

    async def run() -> None:
        await present_client().result(work())

    with pytest.raises(TimeoutError, match="the database"):
        asyncio.run(run())


def test_a_server_that_stops_is_no_client_that_has_gone() -> None:
    """Whoever cancels the request is told that it was cancelled, and the work has ended."""
    ended = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def run() -> None:
        request = asyncio.create_task(present_client().result(work()))
        await asyncio.sleep(0.01)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request

    asyncio.run(run())
    assert ended == [True]


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "601", "soon"])
def test_a_deadline_is_a_number_of_seconds(api: httpx.Client, seconds: str) -> None:
    """422 that names the header, for anything but seconds up to ten minutes."""
    response = api.post("/v1/embeddings", files={"files": picture(1)}, headers={"X-Request-Timeout": seconds})
    assert response.status_code == 422
    assert [error["field"].lower() for error in response.json()["errors"]] == ["x-request-timeout"]


def test_a_full_service_refuses_before_it_reads(api_settings: Settings, database: Database) -> None:
    """429 with a time to come back, also to a body that is no form: nothing of it was parsed."""
    settings = api_settings.model_copy(
        update={"num_decoders": 1, "decode_timeout_seconds": 60, "max_wait_seconds": 1e-6}
    )
    publish(database, LocalStorage(settings.storage_dir))
    app = create_app(settings)
    with serving_app(app) as url:
        service = Service(url, app)
        with service.connect(slow_jpeg()):
            wait_until(lambda: service.embedding.admission.num_images == 1)
            refused = httpx.post(f"{url}/v1/embeddings", content=b"{", headers={"Content-Type": "application/json"})
            service.end_decoding()
    assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (429, "busy", "1")
