"""Collections: named sets of images to search in."""

import json
from pathlib import Path
from typing import Any

from service.client.call import Call, Listing, get, given, read_json, read_nothing
from service.client.results import JSON


def create_collection(name: str) -> Call[JSON]:
    """Make an empty collection; an upload with a new name makes one too."""
    return Call("POST", "/v1/collections", read_json, {"json": {"name": name}})


def get_collection(collection: str) -> Call[JSON]:
    """A collection by name or id, and the number of its images."""
    return get(f"/v1/collections/{collection}")


def delete_collection(collection: str) -> Call[None]:
    """Delete a collection, with the images that are in no other one."""
    return Call("DELETE", f"/v1/collections/{collection}", read_nothing)


def change_image(collection: str, image_id: str, **change: Any) -> Call[JSON]:
    """Change what a collection says of an image: `label`, keys of `metadata`, and keys to `unset`."""
    return Call("PATCH", f"/v1/collections/{collection}/images/{image_id}", read_json, {"json": change})


def remove_images(collection: str, condition: JSON) -> Call[int]:
    """Take the images that a filter holds for out of a collection; how many there were."""
    query = {"filter": json.dumps(condition)}
    path = f"/v1/collections/{collection}/images"
    return Call("DELETE", path, lambda response: int(response.json()["num_removed"]), {"params": query})


def get_quality(collection: str, *, k: int = 10, model: str | None = None) -> Call[JSON]:
    """How well the vectors of a labelled collection agree with its labels."""
    return get(f"/v1/collections/{collection}/quality", k=k, model=model)


def get_map(collection: str, *, model: str | None = None) -> Call[JSON]:
    """The collection in two dimensions: id, x, y and label of each of its `items`."""
    return get(f"/v1/collections/{collection}/map", model=model)


def list_collections(**query: Any) -> Listing:
    """All collections, newest first."""
    return Listing("/v1/collections", query)


def list_duplicates(collection: str, *, threshold: float = 0.95, **query: Any) -> Listing:
    """Groups of near-duplicates: `images` that are linked by cosines of at least `threshold`."""
    return Listing(f"/v1/collections/{collection}/duplicates", {"threshold": threshold, **query})


def export_collection(collection: str, path: Path, **query: Any) -> Call[None]:
    """Write a collection's table to a file; `format` is parquet or arrow, `layer` adds vectors."""
    arguments = {"params": given(**query)}
    return Call("GET", f"/v1/collections/{collection}/export", read_nothing, arguments, file=path)


def import_collection(collection: str, path: Path) -> Call[JSON]:
    """Take such a file in; one whose name ends with .arrow is an Arrow stream, another one Parquet."""
    form = "arrow.stream" if path.suffix == ".arrow" else "parquet"
    headers = {"Content-Type": f"application/vnd.apache.{form}"}
    arguments = {"content": path.read_bytes(), "headers": headers}  # whole: a file would be sent by one of the clients
    path_of_import = f"/v1/collections/{collection}/import"
    return Call("POST", path_of_import, read_json, arguments, changes_nothing_twice=True)
