"""Hostile requests over sockets: each has its one answer, which is never a failure of the service."""

import json
import socket
from http.client import HTTPResponse

import httpx
import pytest

from service.core.db import Database
from service.core.storage import LocalStorage
from tests.service.api_keys import client_of, issue
from tests.service.routes.hostile_requests import cases, get, request
from tests.small_models import publish

pytestmark = pytest.mark.usefixtures("storage")  # which is emptied afterwards


def ask(url: httpx.URL, request: bytes) -> tuple[int, str]:
    """Status and code of the answer."""
    with socket.create_connection((url.host, url.port), timeout=20) as connection:
        connection.sendall(request)
        response = HTTPResponse(connection, method=request.partition(b" ")[0].decode("latin-1"))
        response.begin()
        content = response.read()
        is_problem = response.headers["content-type"] == "application/problem+json"
        return response.status, json.loads(content)["code"] if is_problem and content else ""


def test_there_are_enough() -> None:
    """Two hundred requests and more."""
    assert len(cases()) >= 200


def test_each_request_has_its_answer(api: httpx.Client, database: Database, storage: LocalStorage) -> None:
    """Status and code of every request; and the service goes on answering."""
    publish(database, storage, alias="made")
    found = {name: (ask(api.base_url, case.request), (case.status, case.code)) for name, case in cases().items()}
    assert {name: answers for name, answers in found.items() if answers[0] != answers[1]} == {}
    assert ask(api.base_url, get(b"/healthz")) == (200, "")


def test_a_path_that_cannot_be_stored_is_audited(keyed_url: str, database: Database) -> None:
    """A refusal of a change whose path has a NUL, which PostgreSQL has no text for, is 401, and in the log."""
    url = httpx.URL(keyed_url)
    key = issue(database, "ours", "read")
    for header, status in (("X: y", 401), (f"Authorization: Bearer {key}", 403)):
        sent = request(b"DELETE", b"/v1/collections/a%00b", header.encode())
        assert ask(url, sent)[0] == status
    with client_of(keyed_url, issue(database, "ours", "admin")) as admin:
        (entry,) = admin.get("/v1/audit").json()["items"]
    assert (entry["resource"], entry["status"]) == ("/v1/collections/a\N{REPLACEMENT CHARACTER}b", 403)
