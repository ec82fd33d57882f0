"""Images over HTTP."""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image as PillowImage
from sqlalchemy import func, select

from service import image_upload
from service.core import vectors
from service.core.aliases import switch
from service.core.db import Database
from service.core.settings import Settings
from service.core.storage import LocalStorage
from service.core.tables import DEFAULT_TENANT, CollectionImage, Image, Job
from tests.service.routes.gallery import id_of, picture, pixels_h, stored_blobs, upload
from tests.small_models import publish

pytestmark = pytest.mark.usefixtures("storage")  # which is emptied afterwards


def test_an_upload_is_on_disk_and_embedded(
    api: httpx.Client, api_settings: Settings, database: Database, storage: LocalStorage
) -> None:
    """What is answered `created` has its bytes in storage and its row, label, notes and vector in the database."""
    model = publish(database, storage)
    contents = [picture(i) for i in range(3)]
    items = upload(
        api, contents, collection="pets", labels=["cat", None, "dog"], label="pet", metadata={"source": "me"}
    )
    assert items == [
        {
            "filename": f"{i}.png",
            "status": "created",
            "id": id_of(content),
            "label": label,
            "error": None,
            "near_duplicate": None,
        }
        for i, (content, label) in enumerate(zip(contents, ("cat", "pet", "dog"), strict=True))
    ]
    assert sorted(path.read_bytes() for path in stored_blobs(api_settings)) == sorted(contents)
    with database.transaction() as session:
        table = vectors.find_table(session, model.id, "h")
        assert table is not None
        found = vectors.stored_vectors(session, table, map(id_of, contents))
    for content in contents:
        np.testing.assert_allclose(np.sort(found[id_of(content)]), np.sort(pixels_h(content)), atol=1e-6)
    image = api.get(f"/v1/images/{id_of(contents[0])}").json()
    (membership,) = image.pop("collections")
    assert (membership["label"], membership["metadata"], membership["filename"]) == ("cat", {"source": "me"}, "0.png")
    assert (image["format"], image["width"], image["height"]) == ("png", 8, 8)
    assert image["num_bytes"] == len(contents[0])


def test_a_file_fails_alone(api: httpx.Client, api_settings: Settings, database: Database) -> None:
    """Bad files among good ones have an error each and leave nothing behind."""
    items = upload(api, [picture(0), b"no image", picture(1)[:-10], picture(2)])
    assert [item["status"] for item in items] == ["created", "failed", "failed", "created"]
    assert [item["error"] and item["error"]["code"] for item in items] == [
        None,
        "unsupported_format",
        "undecodable",
        None,
    ]
    assert items[1]["id"] is None
    assert sorted(path.read_bytes() for path in stored_blobs(api_settings)) == sorted([picture(0), picture(2)])
    with database.transaction() as session:
        assert session.scalar(select(func.count()).select_from(Image)) == 2


def test_an_upload_without_any_image(api: httpx.Client, api_settings: Settings) -> None:
    """Where all files are bad each has its error, and nothing is stored."""
    assert [item["status"] for item in upload(api, [b"no image", b""], collection="pets")] == ["failed", "failed"]
    assert stored_blobs(api_settings) == []


def test_nothing_is_left_of_an_upload_that_fails(api: httpx.Client, api_settings: Settings, database: Database) -> None:
    """When the rows can't be written, no blob and no row of the request stays."""
    upload(api, [picture(0)], collection="pets")
    before = stored_blobs(api_settings)
    with database.transaction() as session:
        session.connection().exec_driver_sql("alter table collection_image add constraint no_b check (label <> 'b')")
    try:
        files = [("files", ("0.png", picture(i))) for i in range(3)]
        response = api.post("/v1/images", files=files, data={"labels": '["a", "b", "c"]', "collection": "new"})
        assert response.status_code == 500
    finally:
        with database.transaction() as session:
            session.connection().exec_driver_sql("alter table collection_image drop constraint no_b")
    assert stored_blobs(api_settings) == before
    assert [c["name"] for c in api.get("/v1/collections").json()["items"]] == ["pets"]
    with database.transaction() as session:
        assert session.scalar(select(func.count()).select_from(Image)) == 1


def test_an_image_that_exists_takes_new_notes(api: httpx.Client, api_settings: Settings) -> None:
    """A second upload exists; a label and notes that are given replace the old ones, what isn't given stays."""
    upload(api, [picture(0)], label="cat", metadata={"a": 1, "b": 1})
    (again,) = upload(api, [picture(0)], metadata={"b": 2})
    assert (again["status"], again["label"]) == ("exists", "cat")
    (again,) = upload(api, [picture(0)], label="dog")
    assert (again["status"], again["label"]) == ("exists", "dog")
    (item,) = api.get("/v1/images").json()["items"]
    assert (item["label"], item["metadata"]) == ("dog", {"a": 1, "b": 2})
    assert len(stored_blobs(api_settings)) == 1


def test_equal_files_in_a_request_count_once(api: httpx.Client, api_settings: Settings) -> None:
    """The first of equal files creates the image, the second finds it."""
    items = upload(api, [picture(0), picture(1), picture(0)])
    assert [item["status"] for item in items] == ["created", "created", "exists"]
    assert items[0]["id"] == items[2]["id"]
    assert len(stored_blobs(api_settings)) == 2


def test_the_same_images_from_many_clients(api: httpx.Client, api_settings: Settings, database: Database) -> None:
    """Eight uploads of the same ten images at once: each is created once, and has one blob that its row names."""
    contents = [picture(i) for i in range(10)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda i: upload(api, contents[i:] + contents[:i]), range(8)))
    created = [item["id"] for items in results for item in items if item["status"] == "created"]
    assert sorted(created) == sorted(map(id_of, contents))
    with database.transaction() as session:
        keys = set(session.scalars(select(Image.key)))
    assert {str(path.relative_to(api_settings.storage_dir)) for path in stored_blobs(api_settings)} == keys


def test_an_image_may_be_in_several_collections(api: httpx.Client) -> None:
    """Each collection has a label of its own for it."""
    upload(api, [picture(0)], collection="a", label="x")
    (item,) = upload(api, [picture(0)], collection="b", label="y")
    assert item["status"] == "created"
    shown = api.get(f"/v1/images/{id_of(picture(0))}").json()["collections"]
    assert sorted(membership["label"] for membership in shown) == ["x", "y"]


def test_images_are_listed_by_pages(api: httpx.Client) -> None:
    """Pages in order of id hold each image of the collection once."""
    ids = [item["id"] for item in upload(api, [picture(i) for i in range(7)], collection="pets")]
    upload(api, [picture(99)], collection="others")
    seen, cursor = [], None
    while True:
        page = api.get("/v1/images", params={"collection": "pets", "limit": 3} | ({"cursor": cursor} if cursor else {}))
        seen += [item["id"] for item in page.json()["items"]]
        cursor = page.json()["next"]
        if cursor is None:
            break
    assert seen == sorted(ids)
    assert api.get("/v1/images", params={"collection": "none"}).status_code == 404


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"labels": '["a"]'}, "labels"),
        ({"labels": "cat, dog"}, "labels"),
        ({"metadata": "[1]"}, "metadata"),
        ({"metadata": '{"a": NaN}'}, "metadata"),
        ({"metadata": '{"a": "\\u0000"}'}, "metadata"),
        ({"label": "a\0b"}, "label"),
        ({"label": ""}, "label"),
        ({"collection": "../x"}, "collection"),
        ({"colection": "x"}, "colection"),
    ],
)
def test_a_bad_field_is_named(api: httpx.Client, api_settings: Settings, form: dict[str, str], field: str) -> None:
    """422 that names the field, and nothing stored."""
    response = api.post("/v1/images", files=[("files", ("0.png", picture(0)))] * 2, data=form)
    assert response.status_code == 422, response.text
    assert response.json()["errors"][0]["field"].startswith(field)
    assert stored_blobs(api_settings) == []


def test_hostile_names_are_text(api: httpx.Client) -> None:
    """Control and direction characters of a file name are replaced; it is shown, and never a path."""
    response = api.post("/v1/images", files=[("files", ("../a\u202egnp.exe\u2066", picture(0)))])
    assert response.json()["items"][0]["filename"] == "../a\ufffdgnp.exe\ufffd"


def test_too_many_images(api: httpx.Client) -> None:
    """More files than a request may have are refused before anything is decoded."""
    response = api.post("/v1/images", files=[("files", ("0.png", b"x"))] * 257)
    assert (response.status_code, response.json()["code"]) == (413, "too_many_images")


def test_content_is_encoded_anew(api: httpx.Client) -> None:
    """The image comes in its own format, as large as asked, without what was appended to the file."""
    content = picture(0, side=20) + b"<script>"
    upload(api, [content])
    whole = api.get(f"/v1/images/{id_of(content)}/content")
    small = api.get(f"/v1/images/{id_of(content)}/content", params={"size": 5})
    assert whole.headers["content-type"] == "image/png"
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert b"<script>" not in whole.content
    assert [PillowImage.open(io.BytesIO(r.content)).size for r in (whole, small)] == [(20, 20), (5, 5)]


def test_the_embedding_of_a_stored_image(api: httpx.Client, database: Database, storage: LocalStorage) -> None:
    """The stored vector; that of another layer or model is computed; a normalized one has length 1."""
    upload(api, [picture(0)])
    path = f"/v1/images/{id_of(picture(0))}/embedding"
    assert api.get(path).json()["code"] == "no_production_model"
    model = publish(database, storage)
    other = publish(database, storage, alias="staging", side=16)
    h = np.array(api.get(path).json()["embedding"])
    np.testing.assert_allclose(np.sort(h), np.sort(pixels_h(picture(0))), atol=1e-6)
    assert len(api.get(path, params={"layer": "z"}).json()["embedding"]) == 4
    assert len(api.get(path, params={"model": "staging"}).json()["embedding"]) == 3 * 16 * 16
    assert api.get(path, params={"model": other.id}).json()["model"] == other.id
    scaled = np.array(api.get(path, params={"normalize": "true", "model": model.id}).json()["embedding"])
    np.testing.assert_allclose(scaled, h / np.linalg.norm(h), atol=1e-6)
    assert api.get(path, params={"layer": "y"}).json()["code"] == "unknown_layer"


def test_neighbors_are_in_numpys_order(api: httpx.Client, database: Database, storage: LocalStorage) -> None:
    """The other images of the collection by the cosine of their pixels, each with its label."""
    publish(database, storage)
    contents = [picture(i) for i in range(12)]
    upload(api, contents, labels=[f"label {i}" for i in range(12)])
    upload(api, [picture(100)], collection="others")
    h = np.array([pixels_h(content) for content in contents])
    h /= np.linalg.norm(h, axis=1, keepdims=True)
    scores = h[1:] @ h[0]
    found = api.get(f"/v1/images/{id_of(contents[0])}/neighbors", params={"k": 5}).json()["items"]
    order = np.argsort(-scores)[:5]
    assert [item["id"] for item in found] == [id_of(contents[1 + i]) for i in order]
    assert [item["label"] for item in found] == [f"label {1 + i}" for i in order]
    np.testing.assert_allclose([item["score"] for item in found], scores[order], atol=1e-6)


def test_a_deleted_image_is_gone(
    api: httpx.Client, api_settings: Settings, database: Database, storage: LocalStorage
) -> None:
    """Deleting removes the row, the bytes, the memberships and the vector; then it is unknown, and can come back."""
    publish(database, storage)
    upload(api, [picture(0), picture(1)])
    path = f"/v1/images/{id_of(picture(0))}"
    assert api.delete(path).status_code == 204
    assert [api.get(path + end).status_code for end in ("", "/content", "/embedding", "/neighbors")] == [404] * 4
    assert api.delete(path).status_code == 404
    assert [blob.read_bytes() for blob in stored_blobs(api_settings)] == [picture(1)]
    assert api.get(f"/v1/images/{id_of(picture(1))}/neighbors").json()["items"] == []
    assert upload(api, [picture(0)])[0]["status"] == "created"
    assert api.get(path + "/content").status_code == 200


def test_deleting_and_uploading_at_once(api: httpx.Client, api_settings: Settings, database: Database) -> None:
    """However uploads and deletions interleave, at the end the image's row names the only blob, or both are gone."""
    path = f"/v1/images/{id_of(picture(0))}"
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(upload, api, [picture(0)]) for _ in range(12)]
        jobs += [pool.submit(api.delete, path) for _ in range(12)]
        for job in jobs:
            job.result()
    with database.transaction() as session:
        keys = set(session.scalars(select(Image.key)))
    assert {str(blob.relative_to(api_settings.storage_dir)) for blob in stored_blobs(api_settings)} == keys
    assert api.get(path + "/content").status_code == (200 if keys else 404)


def test_an_outgrown_table_gets_its_index_by_a_job(
    api: httpx.Client, database: Database, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upload that finds the table beyond the limit of exact search queues one job, and later ones none."""
    model = publish(database, storage)
    upload(api, [picture(i) for i in range(5)])
    with database.transaction() as session:
        session.connection().exec_driver_sql("analyze")
    monkeypatch.setattr(vectors, "EXACT_LIMIT", 4)
    upload(api, [picture(6)])
    upload(api, [picture(7)])
    with database.transaction() as session:
        (job,) = session.scalars(select(Job)).all()
        assert (job.kind, job.model_id, job.status) == ("index", model.id, "queued")


def test_an_upload_that_a_switch_overtakes_is_found_by_both(
    api: httpx.Client, database: Database, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it is acknowledged it has a vector of the model that serves by then, too."""
    old, new = publish(database, storage), publish(database, storage, alias=None)
    store_images = image_upload.store_images

    def store_and_switch(*arguments: Any, **options: Any) -> Any:
        kept = store_images(*arguments, **options)
        with database.transaction() as session:
            switch(session, DEFAULT_TENANT, "production", new.id)
        return kept

    monkeypatch.setattr(image_upload, "store_images", store_and_switch)
    (item,) = upload(api, [picture(0)])
    assert item["status"] == "created"
    with database.transaction() as session:
        for model in (old, new):
            table = vectors.find_table(session, model.id, "h")
            assert table is not None
            assert vectors.stored_vectors(session, table, [item["id"]])


def test_a_hundred_images_are_one_transaction(api: httpx.Client, database: Database, storage: LocalStorage) -> None:
    """All rows of a request carry the instant of one transaction."""
    publish(database, storage)
    upload(api, [picture(i) for i in range(100)])
    with database.transaction() as session:
        assert len(session.scalars(select(CollectionImage.created_at).distinct()).all()) == 1
        assert len(session.scalars(select(Image.created_at).distinct()).all()) == 1


def test_unknown_and_malformed_ids(api: httpx.Client) -> None:
    """An id of the right form that names nothing is 404, another form is 422."""
    assert api.get("/v1/images/" + "0" * 64).status_code == 404
    assert api.get("/v1/images/..%2f..%2fetc").status_code in {404, 422}
    assert api.get("/v1/images/xyz").status_code == 422
    assert json.loads(api.get("/v1/images/xyz").text)["errors"][0]["field"] == "image_id"
