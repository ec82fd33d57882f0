"""The files of a model in storage."""

from pathlib import Path

from service.core.errors import Unavailable
from service.core.storage import Storage, sha256_of
from service.core.tables import Model

ONNX = "model.onnx"


def fetch_onnx(storage: Storage, model: Model, folder: Path) -> Path:
    """The model's ONNX file, copied to `folder` unless the storage is local. Raises Unavailable (`model_damaged`)."""
    file = model.files[ONNX]
    path = storage.fetch(file["key"], folder / ONNX)
    if sha256_of(path) != file["sha256"]:  # a flipped bit would load silently
        raise Unavailable(f"the file of the model {model.id} is damaged in storage", code="model_damaged")
    return path
