"""Errors as problem+json."""

import errno
import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.datastructures import UploadFile

from service.core.db import Database
from service.core.settings import Settings
from tests.service.conftest import add_dataset, serving
from tests.service.routes.gallery import picture, upload

DATASET_ID = "ds_" + "0" * 26


def post_job(api: httpx.Client, body: str) -> httpx.Response:
    return api.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})


def recipe(text: str) -> str:
    return f'{{"kind": "pretrain", "dataset_id": "{DATASET_ID}", "recipe": {text}}}'


def fields(response: httpx.Response) -> list[str]:
    assert response.status_code == 422, response.text
    assert response.headers["content-type"] == "application/problem+json"
    return [error["field"] for error in response.json()["errors"]]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (recipe('{"los": {}}'), "recipe.los"),
        (recipe('{"loss": {"temperature": NaN}}'), "recipe.loss.temperature"),
        (recipe('{"loss": {"temperature": -Infinity}}'), "recipe.loss.temperature"),
        (recipe('{"loss": {"temperature": -1}}'), "recipe.loss.temperature"),
        (recipe('{"loss": {"temperature": ' + "9" * 4000 + "}}"), "recipe.loss.temperature"),
        (recipe('{"seed": ' + "9" * 4000 + "}"), "recipe.seed"),
        (recipe('{"seed": ' + "[" * 900 + "]" * 900 + "}"), "recipe.seed"),
        (recipe('{"preset": "cifar100"}'), "recipe.preset"),
        (recipe('{"preset": 3}'), "recipe.preset"),
        (recipe('{"schedule": {"epochs": 2, "warmup_epochs": 3}}'), "recipe.schedule.warmup_epochs"),
        (recipe('{"encoder": {"name": "pixels"}}'), "recipe.schedule.epochs"),
        (recipe('{"augmentation": {"crop_area": [0.1]}}'), "recipe.augmentation.crop_area.1"),
        (recipe("3"), "recipe"),
        ('{"kind": "pretrain"}', "dataset_id"),
        ('{"kind": "cook"}', "kind"),
        ("{}", "kind"),
        (recipe('{}, "metadata": {"note": NaN}'), "metadata.note"),
        (recipe('{}, "metadata": {"note": "\\u0000"}'), "metadata.note"),
        (recipe('{}, "metadata": {"note": "\\ud800"}'), "metadata.note"),
        (recipe('{}, "metadata": {"note": {"deep": 1}}'), "metadata.note"),
        (recipe('{}, "resources": {"nodes": {"min": 3, "max": 2}}'), "resources.nodes.max"),
        (recipe('{}, "resources": {"nodes": {"min": 513}}'), "resources.nodes.min"),
        (recipe('{}, "resources": {"processes_per_node": 0}'), "resources.processes_per_node"),
    ],
)
def test_a_wrong_field_is_named(api: httpx.Client, body: str, field: str) -> None:
    """Whatever is wrong with a value, the answer is 422 and names its path in the request."""
    assert field in fields(post_job(api, body))


def test_the_input_is_not_echoed(api: httpx.Client) -> None:
    """A value that is refused by its type is not repeated in the answer."""
    response = post_job(api, recipe('{"seed": "my-secret"}'))
    assert fields(response) == ["recipe.seed"]
    assert "my-secret" not in response.text


def test_many_errors_make_a_short_answer(api: httpx.Client) -> None:
    """At most 50 fields are named."""
    many = ", ".join(f'"x{i}": 1' for i in range(1000))
    assert len(fields(post_job(api, recipe(f"{{{many}}}")))) == 50


@pytest.mark.parametrize(
    "body", ['{"kind": ', "{]", "\xff", "[" * 100_000, '{"seed": ' + "9" * 5000 + "}"], ids=lambda body: body[:9]
)
def test_what_is_no_json_is_a_bad_request(api: httpx.Client, body: str) -> None:
    """Truncated, nested without end, or a number of 5,000 digits: 400 with the reason."""
    response = api.post("/v1/jobs", content=body.encode("latin-1"), headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    problem = response.json()
    assert problem["code"] == "bad_request"
    assert ": " in problem["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v1/jobs/../../etc/passwd", 404, "not_found"),
        ("GET", "/v1/jobs/..%2F..%2Fetc%2Fpasswd", 404, "not_found"),
        ("PATCH", "/v1/jobs", 405, "method_not_allowed"),
        ("GET", "/v1/jobs/job_x", 422, "invalid"),
        ("GET", "/v1/jobs/job_%00", 422, "invalid"),
        ("GET", f"/v1/jobs/job_{'0' * 26}", 404, "not_found"),
        ("GET", "/v1/jobs?limit=0", 422, "invalid"),
        ("GET", "/v1/jobs?cursor=%27;--", 422, "invalid"),
    ],
)
def test_every_error_is_a_problem(api: httpx.Client, method: str, path: str, status: int, code: str) -> None:
    """Unknown paths, methods and ids are told in the same form as all else."""
    response = api.request(method, path)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/v1/jobs", "GET, POST"), (f"/v1/collections/a/images/{'0' * 64}", "DELETE, PATCH, PUT"), ("/healthz", "GET")],
)
def test_405_says_what_is_allowed(api: httpx.Client, path: str, allowed: str) -> None:
    """All that the path takes, in the header Allow and in words."""
    response = api.options(path)
    assert (response.status_code, response.headers["allow"]) == (405, allowed)
    assert response.json()["detail"] == f"{path} takes {allowed}"


@pytest.mark.parametrize("path", ["/", "/healthz", "/nowhere", "/docs", "/web/app.js", "/web/nowhere.js", "/v1/jobs"])
def test_no_response_may_be_guessed_at_or_load_things(api: httpx.Client, path: str) -> None:
    """Each response has the security headers; only the page may load anything, and only from the service."""
    headers = api.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    is_page = path in {"/", "/docs", "/web/app.js"}
    assert headers["content-security-policy"].startswith("default-src 'self'" if is_page else "default-src 'none'")
    assert "unsafe" not in headers["content-security-policy"]


def test_a_body_that_says_it_is_too_large_is_not_read(api: httpx.Client, api_settings: Settings) -> None:
    """The answer to a declared length over the limit comes before the body."""
    address = urlsplit(str(api.base_url))
    too_large = api_settings.max_request_bytes + 1
    with socket.create_connection((address.hostname, address.port), timeout=5) as connection:
        head = ("POST /v1/jobs HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {too_large}")
        connection.sendall("\r\n".join((*head, "", "")).encode())
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"application/problem+json" in answer
    assert b"nosniff" in answer


def test_a_body_that_turns_out_too_large_is_refused(api: httpx.Client, api_settings: Settings) -> None:
    """Without a declared length, the bytes are counted as they come."""
    pieces = (b" " * 10_000 for _ in range(api_settings.max_request_bytes // 10_000 + 1))
    response = api.post("/v1/jobs", content=pieces, headers={"Content-Type": "application/json"})
    assert response.status_code == 413
    assert response.json()["code"] == "too_large"
    assert "SIMCLR_MAX_REQUEST_BYTES" in response.json()["detail"]


def test_database_away(tmp_path: Path) -> None:
    """Without a database the answer is 503 with Retry-After within seconds, and /healthz still says ok."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    settings = Settings(data_dir=tmp_path, database_url=f"postgresql://postgres@127.0.0.1:{port}/postgres", auth="off")
    with serving(settings) as url, httpx.Client(base_url=url, timeout=4) as client:
        response = client.get("/v1/jobs")
        assert (response.status_code, response.json()["code"]) == (503, "unavailable")
        assert int(response.headers["retry-after"]) > 0
        assert str(port) not in response.text
        assert client.get("/healthz").status_code == 200


def test_a_disk_below_the_floor_takes_no_upload_and_is_read(api: httpx.Client, api_settings: Settings) -> None:
    """Uploads get 507 and leave nothing, the service says that it is not ready, and what was stored is shown."""
    (stored,) = upload(api, [picture(1)])
    settings = api_settings.model_copy(update={"min_free_bytes": 2**60, "num_decoders": 1})
    before = set(settings.storage_dir.rglob("*"))
    with serving(settings) as url, httpx.Client(base_url=url, timeout=10) as client:
        refused = [
            client.post("/v1/images", files={"files": ("a.png", picture(2))}),
            client.post("/v1/datasets", files={"file": ("a.tar", bytes(2000))}, data={"name": "pets"}),
        ]
        assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [(507, "storage_full")] * 2
        assert "SIMCLR_MIN_FREE_BYTES" in client.get("/readyz").json()["parts"]["storage"]["about"]["error"]
        assert client.get("/readyz").status_code == 503
        assert client.get(f"/v1/images/{stored['id']}/content").status_code == 200
    assert set(settings.storage_dir.rglob("*")) == before


@pytest.mark.parametrize("path", ["/v1/images", "/v1/datasets"])
def test_a_full_disk_for_temporary_files_is_named(
    api: httpx.Client, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A form whose files find no space to wait in until it is complete gets 507, whoever reads it."""

    async def write(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(UploadFile, "write", write)
    field = "files" if path == "/v1/images" else "file"
    response = api.post(path, files={field: ("a", b"x")}, data={"name": "pets"} if field == "file" else {})
    assert (response.status_code, response.json()["code"]) == (507, "storage_full")


def test_an_internal_error_tells_nothing_of_the_inside(
    api: httpx.Client, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception that nobody foresaw is a 500 problem without its message, with the security headers."""

    def broken(*_arguments: object) -> None:
        raise RuntimeError("secret inside")

    monkeypatch.setattr("service.routes.jobs.check_request", broken)
    with database.transaction() as session:
        dataset_id = add_dataset(session).id
    response = api.post("/v1/jobs", json={"kind": "pretrain", "dataset_id": dataset_id})
    assert (response.status_code, response.json()["code"]) == (500, "internal")
    assert "secret" not in response.text
    assert response.headers["x-content-type-options"] == "nosniff"
