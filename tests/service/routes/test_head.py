"""HEAD, which tells what GET would."""

import asyncio
import threading
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from service.head_requests import HeadRequests
from tests.service.conftest import serving_app
from tests.service.routes.event_streams import SSE

OWN = {"date", "x-request-id", "server-timing"}  # of each answer


def head_of(response: httpx.Response) -> tuple[int, dict[str, str]]:
    """Status and headers, without those that differ from answer to answer."""
    return response.status_code, {name: value for name, value in response.headers.items() if name not in OWN}


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/openapi.json", "/v1/jobs?limit=3", "/v1/nothing"])
def test_a_head_is_that_of_the_answer(api: httpx.Client, path: str) -> None:
    """Its length among it; and the connection serves the next request."""
    answer, head = api.get(path), api.head(path)
    assert head_of(head) == head_of(answer)
    assert head.headers["content-length"] == str(len(answer.content))
    assert head.content == b""


def test_a_stream_has_a_head(api: httpx.Client) -> None:
    """And the connection serves the next request."""
    head = api.head("/v1/jobs", headers=SSE)
    assert head.headers["content-type"].startswith("text/event-stream")
    assert api.get("/healthz").is_success


def test_a_stream_ends_with_its_head() -> None:
    """Nothing goes on to make what isn't to be sent."""
    ended = threading.Event()

    async def forever() -> AsyncIterator[bytes]:
        try:
            while True:
                await asyncio.sleep(0.01)
                yield b"more"
        finally:
            ended.set()

    app = FastAPI()
    app.add_middleware(HeadRequests)
    app.add_api_route("/", lambda: StreamingResponse(forever()))
    with serving_app(app) as url, httpx.Client(base_url=url, trust_env=False) as http:
        assert http.head("/").content == b""
        assert ended.wait(5)


def test_what_has_no_get_has_no_head(api: httpx.Client) -> None:
    """405 as for GET, and what there is."""
    assert head_of(api.head("/v1/embeddings")) == head_of(api.get("/v1/embeddings"))
    assert api.head("/v1/embeddings").headers["allow"] == "POST"


def test_a_head_needs_the_key_that_the_answer_needs(keyed_url: str) -> None:
    """It tells how much there is."""
    with httpx.Client(base_url=keyed_url, trust_env=False) as http:
        assert http.head("/v1/jobs").status_code == 401
