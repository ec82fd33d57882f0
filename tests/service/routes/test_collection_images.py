"""What collections say of their images, over HTTP."""

import json
from typing import Any

import httpx
import pytest

from service.core.settings import Settings
from tests.service.routes.gallery import id_of, picture, stored_blobs, upload

pytestmark = pytest.mark.usefixtures("storage")  # which is emptied afterwards

IDS = [id_of(picture(i)) for i in range(6)]
DOGS = {"op": "equals", "field": "label", "value": "dog"}


@pytest.fixture
def pets(api: httpx.Client) -> None:
    """Six images, the even ones dogs, each with its number."""
    for i in range(6):
        upload(api, [picture(i)], collection="pets", label="dog" if i % 2 == 0 else "cat", metadata={"n": i})


def listed(api: httpx.Client, collection: str = "pets", **query: Any) -> list[str]:
    response = api.get("/v1/images", params={"collection": collection, **query})
    assert response.status_code == 200, response.text
    return [item["id"] for item in response.json()["items"]]


@pytest.mark.usefixtures("pets")
def test_a_list_is_filtered(api: httpx.Client) -> None:
    """Pages of those that the filter holds for, in order of id."""
    condition = json.dumps({"op": "and", "filters": [DOGS, {"op": "range", "field": "metadata.n", "gt": 0}]})
    expected = sorted([IDS[2], IDS[4]])
    assert listed(api, filter=condition) == expected
    assert listed(api, filter=condition, limit=1) == expected[:1]
    assert listed(api, filter=condition, limit=1, cursor=expected[0]) == expected[1:]


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ("", "filter"),
        ("{", "filter"),
        ("null", "filter"),
        ('{"op": "equals", "field": "label"}', "filter.equals.value"),
    ],
)
def test_a_bad_filter_is_named(api: httpx.Client, content: str, field: str) -> None:
    """422 that names where in the filter the mistake is."""
    for response in (
        api.get("/v1/images", params={"filter": content}),
        api.delete("/v1/collections/pets/images", params={"filter": content}),
    ):
        assert response.status_code == 422
        assert [error["field"] for error in response.json()["errors"]] == [field]


@pytest.mark.usefixtures("pets")
def test_changing_leaves_the_rest(api: httpx.Client) -> None:
    """PATCH merges metadata, takes keys away and sets the label; PUT replaces both."""
    path = f"/v1/collections/pets/images/{IDS[1]}"
    changed = api.patch(path, json={"metadata": {"a": 1, "b": None}}).json()
    assert (changed["label"], changed["metadata"], changed["filename"]) == ("cat", {"n": 1, "a": 1, "b": None}, "0.png")
    changed = api.patch(path, json={"label": None, "unset": ["n", "b", "none"]}).json()
    assert (changed["label"], changed["metadata"]) == (None, {"a": 1})
    assert api.put(path, json={"label": "lynx", "metadata": {"z": 2}}).json()["metadata"] == {"z": 2}
    (shown,) = api.get(f"/v1/images/{IDS[1]}").json()["collections"]
    assert (shown["label"], shown["metadata"]) == ("lynx", {"z": 2})


@pytest.mark.usefixtures("pets")
def test_metadata_stays_bounded(api: httpx.Client) -> None:
    """A change that would leave more keys than an image may have changes nothing."""
    path = f"/v1/collections/pets/images/{IDS[0]}"
    response = api.patch(path, json={"metadata": {str(i): i for i in range(64)}})
    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, "metadata")
    assert api.patch(path, json={}).json()["metadata"] == {"n": 0}
    assert len(api.patch(path, json={"metadata": {str(i): i for i in range(63)}}).json()["metadata"]) == 64


@pytest.mark.usefixtures("pets")
def test_a_stored_image_joins_a_collection(api: httpx.Client) -> None:
    """PUT has it there without another upload; an image or collection that doesn't exist is 404."""
    assert api.put(f"/v1/collections/zoo/images/{IDS[0]}", json={"label": "wolf"}).json()["label"] == "wolf"
    assert listed(api, "zoo") == [IDS[0]]
    for method, path in (
        ("PUT", f"/v1/collections/zoo/images/{'0' * 64}"),
        ("PATCH", f"/v1/collections/zoo/images/{IDS[1]}"),
        ("PATCH", f"/v1/collections/none/images/{IDS[0]}"),
        ("DELETE", f"/v1/collections/zoo/images/{IDS[1]}"),
        ("DELETE", f"/v1/collections/none/images/{IDS[0]}"),
    ):
        response = api.request(method, path, json=None if method == "DELETE" else {})
        assert response.status_code == 404, (method, path)


@pytest.mark.usefixtures("pets")
def test_removing_keeps_what_is_elsewhere(api: httpx.Client, api_settings: Settings) -> None:
    """What leaves its last collection is deleted with its bytes; the others stay where they are."""
    api.put(f"/v1/collections/zoo/images/{IDS[2]}", json={})
    removed = api.delete("/v1/collections/pets/images", params={"filter": json.dumps(DOGS)})
    assert removed.json() == {"num_removed": 3}
    assert (listed(api), listed(api, "zoo")) == (sorted([IDS[1], IDS[3], IDS[5]]), [IDS[2]])
    assert [api.get(f"/v1/images/{id_}").status_code for id_ in IDS] == [404, 200, 200, 200, 404, 200]
    assert api.delete(f"/v1/collections/pets/images/{IDS[3]}").status_code == 204
    assert sorted(path.read_bytes() for path in stored_blobs(api_settings)) == sorted(map(picture, (1, 2, 5)))
