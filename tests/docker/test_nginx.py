"""docker/nginx.conf, run by nginx in front of an API that notes what reaches it."""

import re
import shutil
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.responses import StreamingResponse

from service.core.settings import Settings
from service.limits import FORM_OVERHEAD_BYTES
from tests.docker.compose import ROOT, services
from tests.service.conftest import serving_app
from tests.stack import free_port
from tests.waiting import wait_until

CONFIGURATION = (ROOT / "docker" / "nginx.conf").read_text()
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
UNITS = {"k": 2**10, "m": 2**20, "g": 2**30}

with_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


class Upstream:
    """The API's place: `seen` are the requests in their order; an event stream goes on for each `go_on.release()`."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.seen: list[Request] = []
        self.go_on = threading.Semaphore(0)
        self.app.api_route("/v1/jobs/{job_id}/events")(self.stream)
        self.app.api_route("/{path:path}", methods=["GET", "POST"])(self.note)

    async def note(self, request: Request) -> dict[str, int]:
        self.seen.append(request)
        return {"num_bytes": len(await request.body())}

    async def stream(self) -> StreamingResponse:
        async def events() -> AsyncIterator[bytes]:
            for number in range(3):
                yield f"data: {number}\n\n".encode()
                await anyio.to_thread.run_sync(self.go_on.acquire)

        return StreamingResponse(events(), media_type="text/event-stream")


@pytest.fixture
def upstream() -> Upstream:
    return Upstream()


@pytest.fixture
def proxy(upstream: Upstream, tmp_path: Path) -> Iterator[str]:
    """The proxy's address, with the file's ports, addresses and folders replaced by the test's."""
    assert NGINX is not None
    port = free_port()
    with serving_app(upstream.app) as url:
        text = CONFIGURATION
        for old, new in {
            "/tmp/": f"{tmp_path}/",
            "http://api:8000": url,
            "listen 8080": f"listen 127.0.0.1:{port}",
            "/var/cache/nginx": str(tmp_path),
            "worker_processes auto": "worker_processes 1",
        }.items():
            assert old in text
            text = text.replace(old, new)
        file = tmp_path / "nginx.conf"
        file.write_text(text)
        command = [NGINX, "-c", str(file), "-g", "daemon off; user root;"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            try:
                wait_until(lambda: process.poll() is not None or listens(port))
                assert process.poll() is None, process.stderr and process.stderr.read()
                yield f"http://127.0.0.1:{port}"
            finally:
                process.terminate()


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def connect(url: str) -> socket.socket:
    return socket.create_connection((httpx.URL(url).host, httpx.URL(url).port or 80), timeout=20)


def num_bytes(text: str) -> int:
    return int(text[:-1]) * UNITS[text[-1]]


def test_limits_are_a_little_above_the_services() -> None:
    """The answer to a body that is too large comes from the API, which names the setting: nginx lets it through."""
    everywhere, datasets = map(num_bytes, re.findall(r"client_max_body_size (\w+);", CONFIGURATION))
    settings = Settings()
    assert settings.max_request_bytes < everywhere < 1.1 * settings.max_request_bytes
    archive = settings.max_archive_bytes + FORM_OVERHEAD_BYTES
    assert archive < datasets < 1.1 * archive


def test_ports_and_names_are_those_of_compose() -> None:
    """The proxy listens where compose publishes and asks; it sends to the service `api` and its port."""
    (port,) = re.findall(r"listen (\d+);", CONFIGURATION)
    (target,) = re.findall(r"set \$api http://([\w:]+);", CONFIGURATION)
    assert services()["proxy"]["ports"][0].endswith(f":{port}")
    assert f":{port}/healthz" in services()["proxy"]["healthcheck"]["test"][-1]
    assert target == "api:8000"


@with_nginx
@pytest.mark.parametrize(
    ("path", "size", "answer"),
    [
        ("/v1/embeddings", 256 * 2**20, b"100"),
        ("/v1/embeddings", 300 * 2**20, b"413"),
        ("/v1/datasets", 2 * 2**30 + FORM_OVERHEAD_BYTES, b"100"),
        ("/v1/datasets", 3 * 2**30, b"413"),
    ],
)
def test_a_body_that_no_setting_allows_ends_at_the_proxy(
    proxy: str, upstream: Upstream, path: str, size: int, answer: bytes
) -> None:
    """A client that asks first is told to go on, or 413, before it sends a byte."""
    with connect(proxy) as client:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\nExpect: 100-continue\r\n\r\n"
        client.sendall(head.encode())
        assert client.recv(12).split()[1] == answer
    assert not upstream.seen


@with_nginx
def test_a_slow_sender_keeps_no_replica_waiting(proxy: str, upstream: Upstream) -> None:
    """A request reaches the API when it is whole: one that was begun later, but quicker, is there first."""
    with connect(proxy) as slow:
        slow.sendall(b"POST /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\n\r\nha")
        assert httpx.post(f"{proxy}/quick", content=b"whole").json() == {"num_bytes": 5}
        slow.sendall(b"lf")
        assert b'{"num_bytes":4}' in b"".join(iter(lambda: slow.recv(4096), b""))
    assert [request.url.path for request in upstream.seen] == ["/quick", "/slow"]


@with_nginx
def test_events_pass_as_they_come(proxy: str, upstream: Upstream) -> None:
    """Each is read while the stream is open and the next one not yet made."""
    try:
        with httpx.stream("GET", f"{proxy}/v1/jobs/job_1/events", timeout=5) as response:
            lines = filter(None, response.iter_lines())
            for number in range(3):
                assert next(lines) == f"data: {number}"
                upstream.go_on.release()
    finally:
        upstream.go_on.release(3)


@with_nginx
def test_the_api_knows_the_client_as_the_proxy_saw_it(proxy: str, upstream: Upstream) -> None:
    """What the client says of its own address is dropped; the host that it asked for stays."""
    httpx.get(f"{proxy}/v1/models", headers={"X-Forwarded-For": "10.0.0.1", "Host": "images.example"})
    headers: Any = upstream.seen[0].headers
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["host"] == "images.example"


@with_nginx
def test_metrics_stay_inside(proxy: str, upstream: Upstream) -> None:
    """/metrics is asked of each replica, not through the proxy."""
    assert httpx.get(f"{proxy}/metrics").status_code == 404
    assert not upstream.seen
