"""Collections over HTTP."""

import httpx
import pytest
from sqlalchemy import select

from service.core.db import Database
from service.core.settings import Settings
from service.core.tables import Image
from tests.service.routes.gallery import id_of, picture, stored_blobs, upload

pytestmark = pytest.mark.usefixtures("storage")  # which is emptied afterwards


def test_a_collection_is_made_and_counted(api: httpx.Client) -> None:
    """201 with its place; by id and by name it tells how many images it has."""
    response = api.post("/v1/collections", json={"name": "pets"})
    assert response.status_code == 201
    made = response.json()
    assert response.headers["location"] == f"/v1/collections/{made['id']}"
    assert made["num_images"] == 0
    upload(api, [picture(0), picture(1)], collection=made["id"])
    for key in (made["id"], "pets"):
        assert api.get(f"/v1/collections/{key}").json() == {**made, "num_images": 2}


def test_names_are_unique_and_plain(api: httpx.Client) -> None:
    """A taken name is a conflict; one with other characters, or that looks like an id, is invalid."""
    id_ = api.post("/v1/collections", json={"name": "pets"}).json()["id"]
    again = api.post("/v1/collections", json={"name": "pets"})
    assert (again.status_code, again.json()["code"]) == (409, "name_taken")
    for name in ("", "a/b", "a" * 65, id_[:-1] + "0"):
        assert api.post("/v1/collections", json={"name": name}).status_code == 422


def test_collections_are_listed_newest_first(api: httpx.Client) -> None:
    """Pages of collections with their numbers of images."""
    for number in range(3):
        upload(api, [picture(i) for i in range(number + 1)], collection=f"c{number}")
    first = api.get("/v1/collections", params={"limit": 2}).json()
    rest = api.get("/v1/collections", params={"limit": 2, "cursor": first["next"]}).json()
    listed = [(item["name"], item["num_images"]) for item in first["items"] + rest["items"]]
    assert listed == [("c2", 3), ("c1", 2), ("c0", 1)]
    assert rest["next"] is None


def test_deleting_keeps_what_is_elsewhere(api: httpx.Client, api_settings: Settings, database: Database) -> None:
    """With a collection go the images that are in no other, with their bytes."""
    upload(api, [picture(0), picture(1)], collection="a")
    upload(api, [picture(1), picture(2)], collection="b")
    gone = api.delete("/v1/collections/a")
    assert gone.status_code == 204
    assert "content-type" not in gone.headers  # of nothing
    assert api.get("/v1/collections/a").status_code == 404
    assert api.delete("/v1/collections/a").status_code == 404
    with database.transaction() as session:
        assert set(session.scalars(select(Image.id))) == {id_of(picture(1)), id_of(picture(2))}
    assert sorted(path.read_bytes() for path in stored_blobs(api_settings)) == sorted([picture(1), picture(2)])
    api.delete("/v1/collections/b")
    assert stored_blobs(api_settings) == []


def test_an_upload_names_an_existing_collection_by_id(api: httpx.Client) -> None:
    """An id that names no collection doesn't make one."""
    response = api.post(
        "/v1/images",
        files=[("files", ("0.png", picture(0)))],
        data={"collection": "col_01jcz0000000000000000000vv"},
    )
    assert response.status_code == 404
    assert api.get("/v1/collections").json()["items"] == []


def test_labels_are_counted_page_by_page(api: httpx.Client) -> None:
    """Each label of this collection with its number of images, in order; images without a label count for none."""
    for label, numbers in (("dog", (0, 1)), ("cat", (2, 3, 4)), ("emu", (5,)), (None, (6,))):
        upload(api, [picture(i) for i in numbers], collection="pets", **({"label": label} if label else {}))
    upload(api, [picture(7)], collection="other", label="cat")
    first = api.get("/v1/collections/pets/labels", params={"limit": 2}).json()
    assert first == {"items": [{"label": "cat", "num_images": 3}, {"label": "dog", "num_images": 2}], "next": "dog"}
    rest = api.get("/v1/collections/pets/labels", params={"limit": 2, "cursor": "dog"}).json()
    assert rest == {"items": [{"label": "emu", "num_images": 1}], "next": None}
    assert api.get("/v1/collections/none/labels").status_code == 404
