"""What a service that is full says at its door, byte by byte, and what becomes of the connection."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx
import pytest

from service.admission import Admission
from service.core.errors import Busy
from service.core.settings import Settings
from tests.service.conftest import serving
from tests.service.routes.gallery import picture

EMBED = "POST /v1/embeddings HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
LOOK = b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n"


@pytest.fixture
def _full(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Admission) -> None:
        raise Busy("an answer would take 9 seconds", retry_after_seconds=9)

    monkeypatch.setattr(Admission, "check_wait", refuse)


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    """A connection to the service."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
        yield connection


def answers(connection: socket.socket, number: int) -> list[tuple[int, dict[str, str], bytes]]:
    """Status, headers and body of the next answers."""
    found = []
    with connection.makefile("rb") as stream:
        for _ in range(number):
            status = int(stream.readline().split()[1])
            lines = iter(lambda: stream.readline().decode().rstrip("\r\n"), "")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            found.append((status, headers, stream.read(int(headers["content-length"]))))
    return found


def is_closed(connection: socket.socket) -> bool:
    """Whether the service has closed it."""
    return connection.recv(1) == b""


@pytest.mark.usefixtures("_full")
def test_a_refusal_is_a_problem_like_every_other(api: httpx.Client) -> None:
    """With the headers of every answer, whoever wrote it, and the seconds to come back."""
    refused, other = api.post("/v1/embeddings", files={"files": picture(1)}), api.get("/v1/nothing")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "9")
    assert refused.json() == other.json() | {
        "type": "urn:simclr:problem:busy",
        "title": Busy.title,
        "status": 429,
        "code": "busy",
        "detail": "an answer would take 9 seconds",
    }
    assert refused.headers.keys() == other.headers.keys() | {"retry-after"}
    shared = other.headers.keys() - {"x-request-id", "content-length", "date"}
    assert {name: refused.headers[name] for name in shared} == {name: other.headers[name] for name in shared}
    assert refused.headers["x-request-id"] != api.post("/v1/classify").headers["x-request-id"]


@pytest.mark.usefixtures("_full")
@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/embeddings", 405), ("POST", "/v1/search", 422)])
def test_only_requests_that_embed_are_refused(api: httpx.Client, method: str, path: str, status: int) -> None:
    """A search may be by an id."""
    assert api.request(method, path, json={}).status_code == status


@pytest.mark.usefixtures("_full")
def test_the_connection_goes_on(api: httpx.Client) -> None:
    """Also where the body, of which nothing was read, comes after the answer."""
    with connected(str(api.base_url)) as connection:
        connection.sendall(f"{EMBED}Content-Length: 300000\r\n\r\n".encode())
        assert answers(connection, 1)[0][0] == 429
        connection.sendall(b"x" * 300_000 + LOOK)
        assert [status for status, _, _ in answers(connection, 1)] == [200]


@pytest.mark.usefixtures("_full")
def test_requests_in_a_row_are_answered_in_order(api: httpx.Client) -> None:
    """What a client sends without waiting for an answer: behind one that is worked on, the door asks only the last."""
    embed = f"{EMBED}Content-Length: 2\r\n\r\n{{}}".encode()
    with connected(str(api.base_url)) as connection:
        connection.sendall(embed + embed + LOOK + embed * 1500)  # more than Python can call within one another
        statuses = [status for status, _, _ in answers(connection, 1503)]
    assert (statuses[:3], statuses[-1]) == ([429, 429, 200], 429)
    assert set(statuses[3:-1]) == {422}


@pytest.mark.usefixtures("_full")
@pytest.mark.parametrize("header", ["Connection: close", "Expect: 100-continue"])
def test_the_connection_ends_where_it_has_to(api: httpx.Client, header: str) -> None:
    """A client asked for it, or may not send the body that it announced."""
    with connected(str(api.base_url)) as connection:
        connection.sendall(f"{EMBED}Content-Length: 2\r\n{header}\r\n\r\n".encode())
        ((status, headers, _),) = answers(connection, 1)
        assert (status, headers["connection"]) == (429, "close")
        assert is_closed(connection)


@pytest.mark.usefixtures("_full")
def test_another_sites_page_can_read_the_refusal(api_settings: Settings) -> None:
    """If its site is let in."""
    settings = api_settings.model_copy(update={"cors_origins": ["https://page.example"]})
    with serving(settings) as url:
        let_in, other = (
            httpx.post(f"{url}/v1/embeddings", headers={"Origin": f"https://{name}.example"})
            for name in ("page", "other")
        )
    assert (let_in.status_code, let_in.headers["access-control-allow-origin"]) == (429, "https://page.example")
    assert let_in.headers["vary"] == other.headers["vary"] == "Origin"
    assert (other.status_code, "access-control-allow-origin" in other.headers) == (429, False)
