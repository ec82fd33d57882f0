"""Searches for the nearest neighbours."""

from typing import Any

from service.client.call import Call, read_items, read_json
from service.client.results import JSON, Hit


def search(**query: Any) -> Call[JSON]:
    """POST a search by image_id, vector, positive and negative ids, or a batch of `queries`."""
    return Call("POST", "/v1/search", read_json, {"json": query}, changes_nothing_twice=True)


def search_by_image(name: str, content: bytes, **form: Any) -> Call[list[Hit]]:
    """The nearest neighbours of an image that is not stored, best first."""
    arguments = {"data": form, "files": {"file": (name, content)}}
    return Call("POST", "/v1/search", read_items, arguments, changes_nothing_twice=True)
