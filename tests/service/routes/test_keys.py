"""Keys over HTTP, and what was done with them."""

from collections.abc import Iterator

import httpx
import pytest

from service.core.db import Database
from service.core.ids import new_id
from service.core.quotas import Limits
from service.core.settings import Settings
from service.core.storage import LocalStorage
from service.core.tables import AuditEntry
from tests.service.api_keys import client_of, issue
from tests.service.conftest import add_dataset, serving
from tests.service.routes.gallery import picture, upload


@pytest.fixture
def admin(keyed_url: str, database: Database) -> Iterator[httpx.Client]:
    with client_of(keyed_url, issue(database, "ours", "admin", limits=Limits(jobs=5))) as client:
        yield client


def status_with(url: httpx.URL, secret: str) -> int:
    return httpx.get(f"{url}/v1/jobs", headers={"Authorization": f"Bearer {secret}"}).status_code


def test_a_key_is_replaced_without_a_false_401(admin: httpx.Client) -> None:
    """A new one works at once beside the old one; the old one is refused at once where it was revoked."""
    old, new = (admin.post("/v1/keys", json={"name": "ci", "scopes": ["read"]}).json() for _ in range(2))
    for _ in range(3):
        assert [status_with(admin.base_url, key["secret"]) for key in (old, new)] == [200, 200]
    revoked = admin.delete(f"/v1/keys/{old['id']}")
    assert (revoked.status_code, revoked.json()["revoked_at"] is None) == (200, False)
    assert [status_with(admin.base_url, key["secret"]) for key in (old, new)] == [401, 200]


def test_a_secret_is_shown_once(admin: httpx.Client) -> None:
    """The answer that makes a key has it, not to be kept by caches; no other has it."""
    response = admin.post("/v1/keys", json={"name": "ci", "scopes": ["write", "read"]})
    created = response.json()
    assert (response.status_code, response.headers["cache-control"]) == (201, "no-store")
    assert response.headers["location"] == f"/v1/keys/{created['id']}"
    shown = [admin.get(f"/v1/keys/{created['id']}"), admin.get("/v1/keys"), admin.get("/v1/audit")]
    assert all(created["secret"][8:] not in answer.text for answer in shown)
    assert shown[0].json() == {name: value for name, value in created.items() if name != "secret"}
    assert created["scopes"] == ["read", "write"]


def test_a_key_makes_none_with_wider_limits(admin: httpx.Client) -> None:
    """A new one has its maker's limits, or narrower ones."""
    made = admin.post("/v1/keys", json={"name": "ci", "scopes": ["read"], "limits": {"images": 7.0}}).json()
    assert {name: limit for name, limit in made["limits"].items() if limit is not None} == {"images": 7, "jobs": 5}
    response = admin.post("/v1/keys", json={"name": "ci", "scopes": ["read"], "limits": {"jobs": 6}})
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")
    assert "jobs" in response.json()["detail"]


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("scopes.0", {"scopes": ["fly"]}),
        ("scopes", {"scopes": []}),
        ("expires_at", {"expires_at": "2020-01-01T00:00:00Z"}),
        ("expires_at", {"expires_at": "2040-01-01T00:00:00"}),
        ("expires_at", {"expires_at": "9999-12-31T23:59:59-01:00"}),  # in the database, a year that Python can't read
        ("expires_at", {"expires_at": 4e9}),
        ("expires_at", {"expires_at": "4000000000"}),
        ("limits.images", {"limits": {"images": -1}}),
        ("limits.images", {"limits": {"images": False}}),
        ("limits.images", {"limits": {"images": 7.5}}),
        ("limits.images", {"limits": {"images": "7"}}),
        ("limits.requests_per_second", {"limits": {"requests_per_second": True}}),
        ("tenant", {"tenant": "theirs"}),
    ],
)
def test_what_a_key_cannot_be(admin: httpx.Client, field: str, body: dict[str, object]) -> None:
    """422 names the field; a key for another tenant is not to be had."""
    response = admin.post("/v1/keys", json={"name": "ci", "scopes": ["read"], **body})
    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, field)


def entries(admin: httpx.Client) -> list[tuple[str, str, int]]:
    """Action, resource and status of what was recorded, oldest first."""
    items = admin.get("/v1/audit").json()["items"]
    return [(item["action"], item["resource"], item["status"]) for item in reversed(items)]


def test_the_audit_log_has_what_was_changed(
    admin: httpx.Client, keyed_url: str, database: Database, storage: LocalStorage
) -> None:
    """Each change that succeeded, by its key, with the request's id; not what only looked, nor what was not valid."""
    with database.of("ours").transaction() as session:
        dataset_id = add_dataset(session).id
    deleted = admin.delete(f"/v1/datasets/{dataset_id}")
    created = admin.post("/v1/collections", json={"name": "pets"})
    upload(admin, [picture(0)], collection="pets")
    admin.get("/v1/collections")
    admin.post("/v1/collections", json={"name": "pets"})
    admin.post("/v1/search", json={})
    assert entries(admin) == [
        ("delete_dataset", f"/v1/datasets/{dataset_id}", 204),
        ("create_collection", created.headers["location"], 201),
        ("create_images", "/v1/images", 200),
    ]
    first = admin.get("/v1/audit").json()["items"][-1]
    assert first["request_id"] == deleted.headers["x-request-id"]
    assert first["key_id"] == admin.get("/v1/keys").json()["items"][0]["id"]


def test_the_audit_log_has_who_was_not_let(admin: httpx.Client, database: Database) -> None:
    """A key without the scope, and one that was revoked."""
    made = admin.post("/v1/keys", json={"name": "ci", "scopes": ["read"]}).json()
    headers = {"Authorization": f"Bearer {made['secret']}"}
    path = f"{admin.base_url}/v1/jobs/{new_id('job')}/cancel"
    assert httpx.post(path, headers=headers).status_code == 403
    admin.delete(f"/v1/keys/{made['id']}")
    assert httpx.post(path, headers=headers).status_code == 401
    refused = [(item["status"], item["key_id"]) for item in admin.get("/v1/audit").json()["items"]]
    assert [entry for entry in refused if entry[0] >= 400] == [(401, made["id"]), (403, made["id"])]


def test_the_audit_log_is_read_in_pages(admin: httpx.Client, database: Database) -> None:
    """Newest first, and of one tenant."""
    fields = {"key_id": None, "action": "a", "request_id": "r", "status": 200}
    with database.transaction() as session:
        session.add_all(AuditEntry(tenant="ours", resource=str(i), **fields) for i in range(5))
        session.add(AuditEntry(tenant="theirs", resource="theirs", **fields))
    found, cursor = [], None
    while True:
        page = admin.get("/v1/audit", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        found += [item["resource"] for item in page["items"]]
        if (cursor := page["next"]) is None:
            break
    assert found == ["4", "3", "2", "1", "0"]


def test_without_keys_everything_is_open_and_recorded(api: httpx.Client, database: Database) -> None:
    """A service of one's own machine has an audit log too, and can make the keys that it will need."""
    made = api.post("/v1/keys", json={"name": "first", "scopes": ["admin"]})
    assert made.status_code == 201
    assert [(item["key_id"], item["action"]) for item in api.get("/v1/audit").json()["items"]] == [(None, "create_key")]


def test_strangers_cannot_fill_the_audit_log(api_settings: Settings, database: Database) -> None:
    """They are recorded for no tenant; beyond 60 at once and one a second only the process's log has them."""
    with serving(api_settings.model_copy(update={"auth": "on"})) as url, httpx.Client(base_url=url) as stranger:
        for _ in range(80):
            assert stranger.delete(f"/v1/models/{new_id('mdl')}").status_code == 401
    with database.transaction() as session:
        recorded = session.query(AuditEntry).all()
    assert {(entry.tenant, entry.key_id, entry.status) for entry in recorded} == {(None, None, 401)}
    assert 60 <= len(recorded) <= 70
