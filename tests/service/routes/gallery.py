"""Images for the tests of the API."""

import hashlib
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from models.preprocess import ImageLimits, decode
from service.core.settings import Settings
from tests.models.image_files import encode, noise

LIMITS = ImageLimits(max_bytes=10**7, max_pixels=10**7, max_side=10**4)


def picture(seed: int, side: int = 8) -> bytes:
    """A PNG of random pixels."""
    return encode(noise(side, side, seed=seed), "png")


def pixels_h(content: bytes) -> NDArray[np.float64]:
    """What the encoder `pixels` makes of an image of its own size, up to the order of the values."""
    return decode(content, LIMITS).pixels.astype(np.float64).ravel() / 255


def id_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def upload(api: httpx.Client, contents: list[bytes], **form: Any) -> list[dict[str, Any]]:
    """The results of an upload; lists and dicts of the form are sent as JSON."""
    data = {key: value if isinstance(value, str) else json.dumps(value) for key, value in form.items()}
    files = [("files", (f"{i}.png", content)) for i, content in enumerate(contents)]
    response = api.post("/v1/images", files=files, data=data)
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json()["items"]
    return items


def stored_blobs(settings: Settings) -> list[Path]:
    """All files of images in the API's storage, also half-written ones."""
    folders = (settings.storage_dir / "images", settings.storage_dir / ".partial")
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]
