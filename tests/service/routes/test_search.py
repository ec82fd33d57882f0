"""Search over HTTP."""

import json
from typing import Any

import httpx
import numpy as np
import pytest

from service import search as search_module
from service.core.db import Database
from service.core.storage import LocalStorage
from service.embedding import Embedding
from tests.models.image_files import encode
from tests.service.routes.gallery import id_of, picture, pixels_h, upload
from tests.small_models import publish

CONTENTS = [picture(i) for i in range(12)]
IDS = [id_of(content) for content in CONTENTS]
SIZE = 3 * 8 * 8


@pytest.fixture
def gallery(api: httpx.Client, database: Database, storage: LocalStorage) -> None:
    """Twelve images in `pets`, one elsewhere, with their vectors."""
    publish(database, storage)
    upload(api, CONTENTS, collection="pets", labels=[f"label {i}" for i in range(12)], metadata={"kind": "noise"})
    upload(api, [picture(100)], collection="others")


def expected(query: np.ndarray[Any, Any], excluded: set[int] = frozenset()) -> tuple[list[str], list[float]]:  # type: ignore[assignment]  # empty
    """Ids and cosines of the gallery by NumPy."""
    h = np.array([pixels_h(content) for content in CONTENTS])
    scores = h @ query / np.linalg.norm(h, axis=1) / np.linalg.norm(query)
    order = [i for i in np.argsort(-scores) if i not in excluded]
    return [IDS[i] for i in order], [float(scores[i]) for i in order]


def search(api: httpx.Client, **body: Any) -> dict[str, Any]:
    response = api.post("/v1/search", json={"collection": "pets", "k": 20, **body})
    assert response.status_code == 200, response.text
    assert "total;dur=" in response.headers["server-timing"]
    assert response.headers["x-model-variant"] == "float32"
    found: dict[str, Any] = response.json()
    return found


def check(items: list[dict[str, Any]], ids: list[str], scores: list[float]) -> None:
    assert [item["id"] for item in items] == ids
    np.testing.assert_allclose([item["score"] for item in items], scores, atol=1e-6)


@pytest.mark.usefixtures("gallery")
def test_by_stored_image(api: httpx.Client) -> None:
    """The collection's other images in NumPy's order with label, notes and file name; itself only on request."""
    items = search(api, image_id=IDS[0])["items"]
    check(items, *expected(pixels_h(CONTENTS[0]), {0}))
    position = IDS.index(items[0]["id"])
    assert (items[0]["label"], items[0]["filename"]) == (f"label {position}", f"{position}.png")
    assert items[0]["metadata"] == {"kind": "noise"}
    check(search(api, image_id=IDS[0], exclude_self=False)["items"], *expected(pixels_h(CONTENTS[0])))


@pytest.mark.usefixtures("gallery")
def test_an_image_from_another_collection_may_ask(api: httpx.Client) -> None:
    """The query may be anywhere; results are of the collection only."""
    check(search(api, image_id=id_of(picture(100)))["items"], *expected(pixels_h(picture(100))))
    assert search(api, image_id=IDS[0], collection="others", k=5)["items"][0]["id"] == id_of(picture(100))


@pytest.mark.usefixtures("gallery")
def test_by_uploaded_file(api: httpx.Client) -> None:
    """The same pixels in another file find their original first."""
    copy = encode(np.asarray(pixels_h(CONTENTS[5]).reshape(8, 8, 3) * 255).round().astype(np.uint8), "webp")
    response = api.post("/v1/search", files={"file": ("a.webp", copy)}, data={"collection": "pets", "k": "3"})
    ids, scores = expected(pixels_h(CONTENTS[5]))
    check(response.json()["items"], ids[:3], scores[:3])


@pytest.mark.usefixtures("gallery")
def test_by_vector_of_any_length(api: httpx.Client) -> None:
    """A vector finds by its direction alone, however long; min_score cuts the list."""
    h = api.get(f"/v1/images/{IDS[3]}/embedding").json()["embedding"]
    reference = search(api, image_id=IDS[3], exclude_self=False)["items"]
    for scale in (1e-30, 1e300):
        items = search(api, vector=[scale * value for value in h])["items"]
        check(items, [item["id"] for item in reference], [item["score"] for item in reference])
    least = reference[4]["score"] - 1e-6
    assert len(search(api, vector=h, min_score=least)["items"]) == 5


@pytest.mark.usefixtures("gallery")
def test_by_examples(api: httpx.Client) -> None:
    """Mean direction of the positives plus its difference from that of the negatives; the examples are left out."""

    def mean(*positions: int) -> np.ndarray[Any, Any]:
        directions = [pixels_h(CONTENTS[i]) / np.linalg.norm(pixels_h(CONTENTS[i])) for i in positions]
        return np.mean(directions, axis=0)

    items = search(api, positive=[IDS[0], IDS[1]], negative=[IDS[2]])["items"]
    check(items, *expected(2 * mean(0, 1) - mean(2), {0, 1, 2}))
    check(search(api, positive=[IDS[0], IDS[1]])["items"], *expected(mean(0, 1), {0, 1}))


@pytest.mark.usefixtures("gallery")
def test_a_batch_is_its_searches_one_by_one(api: httpx.Client) -> None:
    """Results in the order of the queries, each as if it were asked alone."""
    vector = api.get(f"/v1/images/{IDS[4]}/embedding").json()["embedding"]
    queries: list[dict[str, Any]] = [{"image_id": id_} for id_ in IDS] + [{"vector": vector}]
    results = search(api, queries=queries, k=5)["results"]
    for query, result in zip(queries, results, strict=True):
        alone = search(api, **query, k=5)["items"]
        check(result["items"], [item["id"] for item in alone], [item["score"] for item in alone])


@pytest.mark.usefixtures("gallery")
def test_a_filter_leaves_what_it_holds_for(api: httpx.Client) -> None:
    """By JSON and by form the filter's images come in the order that they have without it; min_score cuts these."""
    some = {f"label {i}" for i in (2, 3, 7, 9)}
    condition = {"op": "in", "field": "label", "values": sorted(some)}
    everything = search(api, image_id=IDS[3])["items"]
    items = search(api, image_id=IDS[3], filter=condition)["items"]
    assert items == [item for item in everything if item["label"] in some]
    assert search(api, image_id=IDS[3], filter=condition, min_score=items[1]["score"] - 1e-6)["items"] == items[:2]
    data = {"collection": "pets", "k": "20", "filter": json.dumps(condition)}
    by_form = api.post("/v1/search", files={"file": ("3.png", CONTENTS[3])}, data=data).json()["items"]
    assert [item["id"] for item in by_form] == [IDS[3], *(item["id"] for item in items)]
    query = {"collection": "pets", "k": 20, "filter": json.dumps(condition)}
    assert api.get(f"/v1/images/{IDS[3]}/neighbors", params=query).json()["items"] == items


@pytest.mark.parametrize("number", [1, 3, 4, 5])
@pytest.mark.usefixtures("gallery")
def test_groups_are_the_labels_of_the_nearest(api: httpx.Client, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The labels in the order of their best image, each with its best ones; those without a label are one, too."""
    labels = ["a", "b", None, "c"]
    for i, id_ in enumerate(IDS):
        api.put(f"/v1/collections/pets/images/{id_}", json={"label": labels[i * i % 7 % 4]})
    everything = search(api, image_id=IDS[0])["items"]
    expected_groups: dict[str | None, list[dict[str, Any]]] = {}
    for item in everything:
        expected_groups.setdefault(item["label"], []).append(item)
    found = search(api, image_id=IDS[0], group_by="label", k=number, group_size=2)["groups"]
    expected_ones = [{"label": label, "items": items[:2]} for label, items in expected_groups.items()]
    assert found == expected_ones[:number]


@pytest.mark.usefixtures("gallery")
def test_a_far_label_is_found_as_well(api: httpx.Client) -> None:
    """A second label is found though all but the last of the images have the first."""
    order = [item["id"] for item in search(api, image_id=IDS[0])["items"]]
    for id_ in order:
        api.put(f"/v1/collections/pets/images/{id_}", json={"label": "near" if id_ != order[-1] else "far"})
    found = search(api, image_id=IDS[0], group_by="label", k=2, group_size=1)["groups"]
    assert [(group["label"], [item["id"] for item in group["items"]]) for group in found] == [
        ("near", [order[0]]),
        ("far", [order[-1]]),
    ]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body"),
        ({"image_id": "0" * 64, "vector": [1.0]}, "body"),
        ({"image_id": "xyz"}, "image_id"),
        ({"vector": []}, "vector"),
        ({"negative": ["0" * 64], "vector": [1.0]}, "negative"),
        ({"queries": [{}]}, "queries.0"),
        ({"queries": [{"vector": [1.0]}] * 1000, "k": 51}, "k"),
        ({"vector": [1.0], "k": 0}, "k"),
        ({"vector": [1.0], "min_score": 2}, "min_score"),
        ({"vector": [1.0], "colection": "x"}, "colection"),
        ({"vector": [1.0], "filter": {"op": "equals", "field": "x", "value": 1}}, "filter.field"),
        ({"vector": [1.0], "filter": {"op": "not", "filter": {"op": "in", "field": "label"}}}, "filter.filter.values"),
        ({"vector": [1.0], "filter": {"op": "nor"}}, "filter.op"),
        ({"queries": [{"vector": [1.0]}], "group_by": "label"}, "group_by"),
        ({"vector": [1.0], "group_by": "label", "k": 101}, "k"),
    ],
)
def test_a_bad_field_is_named(api: httpx.Client, body: dict[str, Any], field: str) -> None:
    """422 that names the field, or the body when it is about several."""
    response = api.post("/v1/search", json=body)
    assert response.status_code == 422, response.text
    named = response.json()["errors"][0]["field"]
    assert named.startswith(field) or (field == "body" and not named)


def test_not_a_number(api: httpx.Client) -> None:
    """NaN and infinity in a vector are refused, whether JSON allows them or not."""
    for value in ("NaN", "1e999"):
        content = f'{{"vector": [{value}]}}'
        response = api.post("/v1/search", content=content, headers={"Content-Type": "application/json"})
        assert response.status_code in {400, 422}


@pytest.mark.usefixtures("gallery")
def test_vectors_that_do_not_fit(api: httpx.Client) -> None:
    """Another length is refused with the right one; zeros have no direction."""
    wrong = api.post("/v1/search", json={"collection": "pets", "vector": [1.0, 2.0]}).json()
    assert (wrong["code"], str(SIZE) in wrong["detail"]) == ("wrong_vector_size", True)
    zero = api.post("/v1/search", json={"collection": "pets", "vector": [0] * SIZE}).json()
    assert zero["code"] == "zero_vector"


@pytest.mark.usefixtures("gallery")
def test_what_is_unknown(api: httpx.Client) -> None:
    """404 for images, collections and models that don't exist."""
    for body in (
        {"image_id": "0" * 64, "collection": "pets"},
        {"positive": [IDS[0], "0" * 64], "collection": "pets"},
        {"image_id": IDS[0], "collection": "none"},
        {"image_id": IDS[0], "collection": "pets", "model": "none"},
    ):
        assert api.post("/v1/search", json=body).status_code == 404


@pytest.mark.usefixtures("gallery")
def test_a_model_without_vectors(api: httpx.Client, database: Database, storage: LocalStorage) -> None:
    """409 that says what to do, for a model that nothing was indexed with."""
    model = publish(database, storage, alias="staging")
    response = api.post("/v1/search", json={"image_id": IDS[0], "collection": "pets", "model": "staging"})
    assert (response.status_code, response.json()["code"]) == (409, "not_indexed")
    assert model.id in response.json()["detail"]


def test_queries_without_vectors_are_read_a_few_at_a_time(
    api: httpx.Client, database: Database, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored images that have no vector yet find like the others; no more than a chunk of files is in memory."""
    upload(api, CONTENTS, collection="pets")  # before there is a model
    publish(database, storage)
    upload(api, [picture(100)], collection="pets")
    sizes: list[int] = []
    embed = Embedding.embed

    async def noting(self: Embedding, contents: list[bytes], *arguments: Any) -> Any:
        sizes.append(len(contents))
        return await embed(self, contents, *arguments)

    monkeypatch.setattr(Embedding, "embed", noting)
    monkeypatch.setattr(search_module, "CHUNK_IMAGES", 5)
    results = search(api, queries=[{"image_id": id_} for id_ in IDS])["results"]
    assert sizes == [5, 5, 2]
    for content, result in zip(CONTENTS, results, strict=True):
        h, other = pixels_h(content), pixels_h(picture(100))
        check(result["items"], [id_of(picture(100))], [h @ other / np.linalg.norm(h) / np.linalg.norm(other)])
