"""Data sets over HTTP; the worker's part is played through service.core.jobs."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from service.core import jobs
from service.core.db import Database
from service.core.settings import Settings
from service.core.tables import Dataset, DatasetRejection, Job
from tests.service.conftest import add_dataset, begin

ARCHIVE = b"PK not really a zip"


def upload(api: httpx.Client, content: bytes = ARCHIVE, filename: str = "pets.zip", **fields: str) -> httpx.Response:
    return api.post("/v1/datasets", files={"file": (filename, content)}, data={"name": "pets", **fields})


def stored(settings: Settings) -> list[Path]:
    """All files of the API's storage, also half-written ones."""
    return [path for path in settings.storage_dir.rglob("*") if path.is_file() and path.name != "health"]


@pytest.fixture(autouse=True)
def _empty_storage(api_settings: Settings) -> Iterator[None]:
    for path in stored(api_settings):  # other tests leave models
        path.unlink()
    yield
    for path in stored(api_settings):
        path.unlink()


def test_an_upload_is_stored_and_queued(api: httpx.Client, api_settings: Settings, database: Database) -> None:
    """202 with the data set's place; its bytes are in storage, its row and its ingest job in the database."""
    response = upload(api, on_invalid="skip", storage_side="64")
    assert response.status_code == 202
    dataset = response.json()
    assert response.headers["location"] == f"/v1/datasets/{dataset['id']}"
    assert (dataset["status"], dataset["name"], dataset["num_images"]) == ("validating", "pets", None)
    assert dataset["archive_sha256"] == hashlib.sha256(ARCHIVE).hexdigest()
    assert api.get(response.headers["location"]).json() == dataset
    assert [path.read_bytes() for path in stored(api_settings)] == [ARCHIVE]
    with database.transaction() as session:
        job = session.get_one(Job, dataset["job_id"])
        assert (job.kind, job.dataset_id, job.recipe) == (
            "ingest",
            dataset["id"],
            {"on_invalid": "skip", "storage_side": 64},
        )
        assert session.get_one(Dataset, dataset["id"]).archive_key == f"datasets/{dataset['id']}/archive"


def test_the_same_archive_again_is_another_data_set(api: httpx.Client) -> None:
    """Two uploads of the same bytes under the same name are two data sets."""
    ids = {upload(api).json()["id"] for _ in range(2)}
    assert {item["id"] for item in api.get("/v1/datasets").json()["items"]} == ids
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"on_invalid": "ignore"}, "on_invalid"),
        ({"name": ""}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"storage_side": "8"}, "storage_side"),
        ({"storage_side": "9" * 5000}, "storage_side"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_kept(
    api: httpx.Client, api_settings: Settings, fields: dict[str, str], field: str
) -> None:
    """422 names the form's field; neither rows nor files are left."""
    response = upload(api, **fields)
    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == [field]
    assert stored(api_settings) == []
    assert api.get("/v1/datasets").json()["items"] == []


def test_the_file_is_required(api: httpx.Client) -> None:
    """A form without a file is 422."""
    response = api.post("/v1/datasets", data={"name": "pets"}, files={"other": b"x"})
    assert response.status_code == 422
    assert "file" in [error["field"] for error in response.json()["errors"]]


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
@pytest.mark.parametrize("over", [1, 100_000], ids=["file over the limit", "body over the limit"])
def test_an_archive_over_the_limit_leaves_nothing(
    api: httpx.Client, api_settings: Settings, database: Database, *, declared: bool, over: int
) -> None:
    """413, with or without Content-Length; neither rows nor files are left."""
    request = api.build_request(
        "POST",
        "/v1/datasets",
        files={"file": ("pets.zip", bytes(api_settings.max_archive_bytes + over))},
        data={"name": "pets"},
    )
    body = request.read()
    headers = {"Content-Type": request.headers["content-type"]}
    content = body if declared else (body[i : i + 50_000] for i in range(0, len(body), 50_000))
    response = api.post("/v1/datasets", content=content, headers=headers)
    assert (response.status_code, response.json()["code"]) == (413, "too_large")
    assert "SIMCLR_MAX_ARCHIVE_BYTES" in response.json()["detail"]
    assert stored(api_settings) == []
    with database.transaction() as session:
        assert session.scalars(select(Job)).all() == []


def test_a_failing_database_leaves_no_file(
    api: httpx.Client, api_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the rows can't be written, the stored archive is deleted again."""

    def broken(*_arguments: object, **_named: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("service.core.jobs.submit", broken)
    assert upload(api).status_code == 500
    assert stored(api_settings) == []
    assert api.get("/v1/datasets").json()["items"] == []


def test_a_commit_whose_answer_is_lost_keeps_the_archive(
    api: httpx.Client, api_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503, but the rows are there: the archive that they name is still in storage."""
    submit = jobs.submit

    def lose(_: Session) -> None:
        raise OperationalError("COMMIT", None, ConnectionError("the server closed the connection"))

    def submit_and_lose(session: Session, **named: Any) -> Job:
        event.listen(session, "after_commit", lose)
        return submit(session, **named)

    monkeypatch.setattr("service.core.jobs.submit", submit_and_lose)
    assert upload(api).status_code == 503
    [dataset] = api.get("/v1/datasets").json()["items"]
    assert [(path.parent.name, path.read_bytes()) for path in stored(api_settings)] == [(dataset["id"], ARCHIVE)]


def test_an_empty_archive_is_accepted_for_validation(api: httpx.Client) -> None:
    """What is in the archive is the job's business, not the upload's."""
    assert upload(api, b"").status_code == 202


def test_a_hostile_file_name_is_only_displayed(api: httpx.Client, api_settings: Settings) -> None:
    """Paths and control characters in a file name reach neither the storage nor a terminal."""
    dataset = upload(api, filename="../../etc/\u202epasswd").json()
    assert dataset["archive_name"] == "../../etc/\ufffdpasswd"
    assert [path.parent.name for path in stored(api_settings)] == [dataset["id"]]


def test_a_page_of_data_sets_leads_to_the_next(api: httpx.Client, database: Database) -> None:
    """Pages of 2 list 5 data sets newest first, each once, also while new ones arrive."""
    with database.transaction() as session:
        ids = [add_dataset(session, id=f"ds_{i:026}").id for i in range(5)]
    seen, cursor = [], None
    for _ in range(3):
        page = api.get("/v1/datasets", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next"]
        with database.transaction() as session:
            add_dataset(session)
    assert seen == ids[::-1]
    assert cursor is None


def test_rejected_files_are_listed_in_order(api: httpx.Client, database: Database) -> None:
    """Pages of the rejected list, in the archive's order."""
    with database.transaction() as session:
        dataset_id = add_dataset(session).id
        for i in range(3):
            session.add(
                DatasetRejection(
                    dataset_id=dataset_id, position=i, name=f"{i}.txt", code="undecodable", detail="no image"
                )
            )
    first = api.get(f"/v1/datasets/{dataset_id}/rejected", params={"limit": 2}).json()
    assert first["items"][0] == {"name": "0.txt", "code": "undecodable", "detail": "no image"}
    second = api.get(f"/v1/datasets/{dataset_id}/rejected", params={"limit": 2, "cursor": first["next"]}).json()
    assert [item["name"] for item in second["items"]] == ["2.txt"]
    assert second["next"] is None
    assert api.get(f"/v1/datasets/ds_{'0' * 26}/rejected").status_code == 404


def test_a_data_set_in_use_is_kept(api: httpx.Client, api_settings: Settings, database: Database) -> None:
    """409 while a job works on it; afterwards it is deleted with its files, and the job stays."""
    dataset = upload(api).json()
    response = api.delete(f"/v1/datasets/{dataset['id']}")
    assert (response.status_code, response.json()["code"]) == (409, "in_use")
    assert dataset["job_id"] in response.json()["detail"]
    with database.transaction() as session:
        jobs.succeed(session, begin(session, dataset["job_id"]), {})
    assert api.delete(f"/v1/datasets/{dataset['id']}").status_code == 204
    assert stored(api_settings) == []
    assert api.get(f"/v1/datasets/{dataset['id']}").status_code == 404
    assert api.delete(f"/v1/datasets/{dataset['id']}").status_code == 404
    assert api.get(f"/v1/jobs/{dataset['job_id']}").json()["dataset_id"] is None
