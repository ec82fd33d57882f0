"""Images that are not stored: their vectors, and what they show.

Legend: M images, D size of a layer.
"""

from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from service.client.call import Call, Steps, given
from service.client.calls.images import NPY, read_vectors
from service.client.results import ClassifiedImage
from service.client.sending import Progress, SentImage, as_files, in_requests, named


def embed(
    images: Sequence[SentImage],
    *,
    model: str | None = None,
    layer: str = "h",
    on_progress: Progress | None = None,
) -> Steps[NDArray[np.float32]]:
    """The vectors, (M, D) float32, of files, contents, or (file name, content) pairs; by default in production's h.

    Many images go in several requests. Raises ApiError when any is no image (`undecodable`), ValueError without images.
    """
    if not images:
        raise ValueError("images: at least one")
    parts: list[NDArray[np.float32]] = []
    num_done = 0
    for part in in_requests(images):
        form = given(layer=layer, model=model)
        arguments = {"data": form, "files": as_files(part), "headers": {"Accept": NPY}}
        parts.append((yield Call("POST", "/v1/embeddings", read_vectors, arguments, changes_nothing_twice=True)))
        num_done += len(part)
        if on_progress:
            on_progress(num_done, len(images))
    return np.concatenate(parts)


def classify(images: Sequence[SentImage], *, probe: str, top_k: int = 5) -> Call[list[ClassifiedImage]]:
    """What images are taken for by the classifier of the job `probe`: an item each; as many as fit one request."""
    form = {"probe": probe, "top_k": str(top_k)}
    arguments = {"data": form, "files": as_files(map(named, images))}
    return Call("POST", "/v1/classify", _read_data, arguments, changes_nothing_twice=True)


def _read_data(response: httpx.Response) -> Any:
    return response.json()["data"]
