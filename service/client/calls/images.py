"""Stored images.

Legend: D size of a layer.
"""

import io
import json
from collections.abc import Sequence
from typing import Any, Literal

import httpx
import numpy as np
from numpy.typing import NDArray

from service.client.call import Call, Listing, Steps, given, read_items, read_json, read_nothing
from service.client.results import JSON, Hit, UploadedImage
from service.client.sending import Progress, SentImage, as_files, in_requests

NPY = "application/x-npy"


def add_images(
    images: Sequence[SentImage],
    *,
    collection: str,
    labels: Sequence[str | None] | None = None,
    metadata: JSON | None = None,
    on_duplicate: Literal["keep", "report", "reject"] = "keep",
    on_progress: Progress | None = None,
) -> Steps[list[UploadedImage]]:
    """Store files, contents, or (file name, content) pairs: an item of the result for each, also for one that failed.

    Many images go in several requests. A new collection's name makes it. `labels` has one for each image, `metadata`
    is kept with all. Raises ValueError when there are not as many labels as images.
    """
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"labels: one for each of the {len(images)} images, not {len(labels)}")
    form = {"collection": collection, "on_duplicate": on_duplicate, "metadata": json.dumps(metadata or {})}
    items: list[UploadedImage] = []
    for part in in_requests(images):
        labelled = {} if labels is None else {"labels": json.dumps(labels[len(items) : len(items) + len(part)])}
        arguments = {"data": form | labelled, "files": as_files(part)}
        # An image's id is the hash of its bytes: what was stored already is found, not stored again.
        items += yield Call("POST", "/v1/images", read_items, arguments, changes_nothing_twice=True)
        if on_progress:
            on_progress(len(items), len(images))
    return items


def get_image(image_id: str) -> Call[JSON]:
    """An image, and what its collections say of it."""
    return Call("GET", f"/v1/images/{image_id}", read_json)


def get_image_content(image_id: str, *, size: int | None = None) -> Call[bytes]:
    """The image encoded anew, its longer side at most `size` pixels."""
    query = given(size=size)
    return Call("GET", f"/v1/images/{image_id}/content", lambda response: response.content, {"params": query})


def get_image_embedding(
    image_id: str, *, model: str | None = None, layer: str = "h", normalize: bool = False
) -> Call[NDArray[np.float32]]:
    """The vector of a stored image, (D,) float32; of length 1 with `normalize`."""
    query = given(model=model, layer=layer, normalize=normalize)
    arguments = {"params": query, "headers": {"Accept": NPY}}
    return Call("GET", f"/v1/images/{image_id}/embedding", lambda response: read_vectors(response)[0], arguments)


def get_neighbors(image_id: str, *, k: int = 10, **query: Any) -> Call[list[Hit]]:
    """The k images of a collection that are most like a stored one, itself left out."""
    return Call("GET", f"/v1/images/{image_id}/neighbors", read_items, {"params": given(k=k, **query)})


def delete_image(image_id: str) -> Call[None]:
    """Delete an image from all collections."""
    return Call("DELETE", f"/v1/images/{image_id}", read_nothing)


def list_images(collection: str, *, condition: JSON | None = None, **query: Any) -> Listing:
    """The images of a collection; `condition` is a filter of label and metadata."""
    text = None if condition is None else json.dumps(condition)
    return Listing("/v1/images", {"collection": collection, "filter": text, **query})


def read_vectors(response: httpx.Response) -> NDArray[np.float32]:
    """The vectors of a NumPy file, (M, D) float32."""
    vectors: NDArray[np.float32] = np.load(io.BytesIO(response.content), allow_pickle=False)
    return np.atleast_2d(vectors)
