"""Keys, as every request meets them."""

import base64
import socket
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from functools import cache

import httpx
import pytest
import structlog
import typer
from openai import AuthenticationError, OpenAI
from sqlalchemy import select, update

from service import authentication
from service.admission import Admission
from service.app import create_app
from service.client import Client
from service.commands.connection import connected
from service.core.db import Database
from service.core.errors import Busy
from service.core.keys import SCOPES
from service.core.quotas import Limits
from service.core.settings import Settings
from service.core.storage import LocalStorage
from service.core.tables import ApiKey
from tests.service.api_keys import client_of, issue
from tests.service.conftest import serving, serving_app
from tests.service.routes.gallery import picture, upload
from tests.small_models import publish

PUBLIC = {"get_health", "get_readiness"}  # the operations that need no key; nothing else of the document may


@pytest.fixture
def api(keyed_url: str, database: Database) -> Iterator[httpx.Client]:
    """A client without a key, of an API that requires one."""
    with httpx.Client(base_url=keyed_url, timeout=30) as client:
        yield client


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def data_uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


@cache
def operations() -> dict[str, tuple[str, str, dict[str, object]]]:
    """Method, path and description of each operation, by its id."""
    document = create_app(Settings(database_url="postgresql://nobody@localhost/none")).openapi()
    return {
        operation["operationId"]: (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_every_operation_says_which_scope_it_needs() -> None:
    """The document has it both as OpenAPI says it and by name; health and readiness are public, by name."""
    found = operations()
    without = {name for name, (_, _, operation) in found.items() if "x-scope" not in operation}
    assert without == PUBLIC
    for name in found.keys() - PUBLIC:
        operation = found[name][2]
        assert operation["x-scope"] in SCOPES
        assert operation["security"] == [{"bearer": [operation["x-scope"]]}]


def test_every_operation_refuses_who_has_no_key(api: httpx.Client) -> None:
    """401 with what to send, before anything of the request is looked at: also for paths that there aren't."""
    for name, (method, path, _) in operations().items():
        response = api.request(method, path, content=b"{")
        assert (response.status_code == 401) is (name not in PUBLIC), name
    response = api.get("/v1/nothing")
    assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.headers["content-type"] == "application/problem+json"
    assert "Authorization: Bearer sk_" in response.json()["detail"]


def test_what_needs_no_key(api: httpx.Client) -> None:
    """The page, its document and the two questions of a load balancer, which say nothing of any tenant."""
    open_paths = ("/", "/web/app.js", "/docs", "/healthz", "/readyz", "/openapi.json")
    assert {api.get(path).status_code for path in open_paths} == {200}
    assert api.get("/readyz").json()["production_model"] is None


@pytest.mark.parametrize("scope", ["read", "write", "train"])
def test_a_scope_opens_its_own_operations_alone(api: httpx.Client, database: Database, scope: str) -> None:
    """403 names the scope that is missing; none but `admin` includes another."""
    headers = bearer(issue(database, "ours", scope))
    for name, (method, path, operation) in operations().items():
        response = api.request(method, path, headers=headers, content=b"{")
        needed = operation.get("x-scope", scope)
        assert (response.status_code == 403) is (needed != scope), name
        if response.status_code == 403:
            assert response.json()["code"] == "forbidden"
            assert f"`{needed}`" in response.json()["detail"]
            assert "WWW-Authenticate" not in response.headers  # another key's scope, not another way to sign in


def test_admin_opens_all(api: httpx.Client, database: Database) -> None:
    """No operation is closed to it."""
    headers = bearer(issue(database, "ours", "admin"))
    found = operations().values()
    statuses = {api.request(method, path, headers=headers, content=b"{").status_code for method, path, _ in found}
    assert statuses.isdisjoint({401, 403})


def test_a_revoked_and_an_expired_key_are_refused(api: httpx.Client, database: Database) -> None:
    """Each is told what it is; a key that is still to expire works."""
    for column in ("revoked_at", "expires_at"):
        secret = issue(database, "ours", "read", expires_at=datetime.now(UTC) + timedelta(hours=1))
        with database.of("ours").transaction() as session:
            session.execute(update(ApiKey).values({column: datetime.now(UTC) - timedelta(seconds=1)}))
        response = api.get("/v1/jobs", headers=bearer(secret))
        assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")
        assert column.removesuffix("_at")[:6] in response.json()["detail"]
    secret = issue(database, "ours", "read", expires_at=datetime.now(UTC) + timedelta(hours=1))
    assert api.get("/v1/jobs", headers=bearer(secret)).status_code == 200


HOSTILE = {
    "bytes": [("Authorization", b"Bearer \xff\xfe\x80")],
    "not ascii": [("Authorization", "Bearer sk_ключ".encode())],
    "empty": [("Authorization", b"")],
    "no secret": [("Authorization", b"Bearer")],
    "another scheme": [("Authorization", b"Basic c2s6c2s=")],
    "a long one": [("Authorization", b"Bearer sk_" + b"a" * 30_000)],
    "SQL": [("Authorization", b"Bearer sk_' or 1=1; drop table api_key; --")],
}


@pytest.mark.parametrize("headers", HOSTILE.values(), ids=HOSTILE)
def test_hostile_headers_are_401(api: httpx.Client, headers: list[tuple[str, bytes]]) -> None:
    """Never 500."""
    assert api.get("/v1/jobs", headers=headers).status_code == 401  # type: ignore[arg-type]  # bytes, as httpx takes them


def test_a_header_without_an_end_is_not_read(api: httpx.Client) -> None:
    """100 kB: the server itself refuses them."""
    assert api.get("/v1/jobs", headers=bearer("a" * 100_000)).status_code in {400, 401, 431}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "this needs a key"),
        (["Bearer a", "Bearer b"], "there are 2 headers Authorization"),
        (["Basic c2s6c2s="], "another scheme than Bearer"),
    ],
)
def test_what_is_wrong_with_a_header_is_told(api: httpx.Client, given: list[str], said: str) -> None:
    """And what to send."""
    detail = api.get("/v1/jobs", headers=[("Authorization", value) for value in given]).json()["detail"]
    assert said in detail
    assert "send the header `Authorization: Bearer sk_" in detail


def test_a_refusal_is_in_the_process_s_log(
    api: httpx.Client, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was not let do what, be it known who; one that only comes too fast is not."""
    log = structlog.testing.CapturingLogger()
    monkeypatch.setattr(authentication, "log", log)
    headers = bearer(issue(database, "ours", "read", "write", limits=Limits(requests_per_second=0.01)))
    response = api.post("/v1/jobs", headers=headers, content=b"{")
    assert "this one has read, write" in response.json()["detail"]
    assert api.get("/v1/jobs", headers=headers).status_code == 429
    assert api.get("/v1/jobs/none").status_code == 401
    with database.of("ours").transaction() as session:
        key_id = session.scalar(select(ApiKey.id))
    known = {"method": "POST", "path": "/v1/jobs", "tenant": "ours", "key_id": key_id, "code": "forbidden"}
    stranger = {"method": "GET", "path": "/v1/jobs/none", "tenant": "", "key_id": None, "code": "unauthenticated"}
    assert log.calls == [("warning", ("refused",), known), ("warning", ("refused",), stranger)]


def test_two_keys_in_one_request_are_none(api: httpx.Client, database: Database) -> None:
    """Which of them a proxy would have looked at can't be known."""
    header = ("Authorization", f"Bearer {issue(database, 'ours', 'read')}")
    assert api.get("/v1/jobs", headers=[header]).status_code == 200
    assert api.get("/v1/jobs", headers=[header, header]).status_code == 401


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer "])
def test_the_scheme_is_told_by_any_letters(api: httpx.Client, database: Database, scheme: str) -> None:
    """As HTTP says."""
    secret = issue(database, "ours", "read")
    assert api.get("/v1/jobs", headers={"Authorization": f"{scheme} {secret}"}).status_code == 200


def test_a_key_in_the_address_is_none(api: httpx.Client, database: Database) -> None:
    """Addresses are logged and remembered."""
    secret = issue(database, "ours", "read")
    assert api.get("/v1/jobs", params={"api_key": secret, "access_token": secret}).status_code == 401


def test_a_refusal_reads_no_body(api: httpx.Client) -> None:
    """401 comes before a byte of the body, and whatever its length is said to be."""
    with socket.create_connection((api.base_url.host, api.base_url.port or 0), timeout=10) as connection:
        connection.sendall(b"POST /v1/datasets HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 401")


def test_a_key_has_a_rate(api: httpx.Client, database: Database) -> None:
    """429 `rate_limited` with Retry-After; another key of the tenant goes on."""
    slow = bearer(issue(database, "ours", "read", limits=Limits(requests_per_second=0.01)))
    assert api.get("/v1/jobs", headers=slow).status_code == 200
    response = api.get("/v1/jobs", headers=slow)
    assert (response.status_code, response.json()["code"]) == (429, "rate_limited")
    assert 0 < int(response.headers["retry-after"]) <= 100
    assert api.get("/v1/jobs", headers=bearer(issue(database, "ours", "read"))).status_code == 200


def test_a_service_that_is_full_asks_nobody_for_a_key(api: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood without keys costs no more than one with them: 429, as every answer with its id and headers."""

    def refuse(self: Admission) -> None:
        raise Busy("no", retry_after_seconds=1)

    assert api.post("/v1/embeddings").status_code == 401
    monkeypatch.setattr(Admission, "check_wait", refuse)
    response = api.post("/v1/embeddings")
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")
    assert response.headers["x-request-id"].startswith("req_")
    assert response.headers["x-content-type-options"] == "nosniff"


def test_quotas_are_429_that_name_the_quota(api: httpx.Client, database: Database, storage: LocalStorage) -> None:
    """Nothing of an upload that is over is kept; what there is may be uploaded again; jobs have theirs."""
    secret = issue(database, "ours", "admin", limits=Limits(images=2, jobs=0))
    with client_of(str(api.base_url), secret) as client:
        upload(client, [picture(0), picture(1)])
        files = [("files", ("a.png", picture(seed))) for seed in (1, 2)]
        response = client.post("/v1/images", files=files)
        assert (response.status_code, response.json()["code"]) == (429, "quota_exceeded")
        assert response.json()["errors"] == [{"field": "images", "message": "limit 2, used 3"}]
        assert int(response.headers["retry-after"]) > 0
        assert len(client.get("/v1/images").json()["items"]) == 2
        assert [item["status"] for item in upload(client, [picture(1)])] == ["exists"]
        model_id = publish(database, storage, tenant="ours").id
        response = client.post("/v1/jobs", json={"kind": "index", "model_id": model_id})
        assert (response.status_code, response.json()["errors"][0]["field"]) == (429, "jobs")


def test_openai_s_client_needs_no_change(keyed_url: str, database: Database, storage: LocalStorage) -> None:
    """Its api_key is the key."""
    publish(database, storage, tenant="ours")
    for secret, error in ((issue(database, "ours", "read"), None), ("sk_wrong", AuthenticationError)):
        client = OpenAI(base_url=f"{keyed_url}/v1", api_key=secret, http_client=httpx.Client(trust_env=False))
        with client, pytest.raises(error) if error else nullcontext():
            assert client.embeddings.create(model="production", input=[data_uri(picture(0))]).data


def test_our_client_and_commands_carry_a_key(
    keyed_url: str, database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The client takes it as an argument, the commands from SIMCLR_API_KEY, which they name where it is missing."""
    secret = issue(database, "ours", "read")
    with Client(keyed_url, api_key=secret) as client:
        assert client.get("/v1/jobs")["items"] == []
    monkeypatch.setenv("SIMCLR_API_KEY", secret)
    with connected(keyed_url) as client:
        assert client.get("/v1/jobs")["items"] == []
    monkeypatch.delenv("SIMCLR_API_KEY")
    with pytest.raises(typer.Exit), connected(keyed_url) as client:
        client.get("/v1/jobs")
    assert "set SIMCLR_API_KEY to a key of this service" in " ".join(capsys.readouterr().out.split())


def test_a_loaded_model_embeds_while_the_database_is_away(
    api_settings: Settings, database: Database, storage: LocalStorage
) -> None:
    """With a key that was seen lately; everything else is 503 with Retry-After."""
    publish(database, storage, tenant="ours")
    secret = issue(database, "ours", "read")
    app = create_app(api_settings.model_copy(update={"auth": "on"}))
    with serving_app(app) as url, client_of(url, secret) as client:
        files = [("files", ("a.png", picture(0)))]
        assert client.post("/v1/embeddings", files=files).status_code == 200
        services = app.state.services
        away = Database("postgresql://x@127.0.0.1:9/x")
        services.keyring._database = services.embedding.models._database = away
        (entry,) = services.keyring._entries.values()
        entry.seen_at -= 60
        assert client.post("/v1/embeddings", files=files).status_code == 200
        response = client.get("/v1/jobs")
        assert (response.status_code, response.json()["code"]) == (503, "unavailable")
        assert int(response.headers["retry-after"]) > 0


def test_other_sites_pages_are_let_in_by_name(api: httpx.Client, api_settings: Settings, database: Database) -> None:
    """By default by none; with the setting those that it names, whose preflight needs no key."""
    asks = {"Origin": "https://page.example", "Access-Control-Request-Method": "GET"}
    assert "access-control-allow-origin" not in api.options("/v1/jobs", headers=asks).headers
    settings = api_settings.model_copy(update={"auth": "on", "cors_origins": ["https://page.example"]})
    with serving(settings) as url:
        answer = httpx.options(f"{url}/v1/jobs", headers=asks)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://page.example")
        refused = httpx.get(f"{url}/v1/jobs", headers={"Origin": "https://page.example"})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "https://page.example")
        other = httpx.options(f"{url}/v1/jobs", headers=asks | {"Origin": "https://other.example"})
        assert "access-control-allow-origin" not in other.headers
