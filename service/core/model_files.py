"""The files of a model in storage."""

from pathlib import Path
from tempfile import TemporaryDirectory

from service.core.errors import Conflict, NotFound, Unavailable
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


def check_files(storage: Storage, model: Model) -> None:
    """Raise Conflict (`corrupt_model`) unless all files of a model are as they were published."""
    with TemporaryDirectory() as folder:
        for name, file in model.files.items():
            try:
                is_whole = sha256_of(storage.fetch(file["key"], Path(folder) / name)) == file["sha256"]
            except NotFound:
                is_whole = False
            if not is_whole:
                raise Conflict(f"{name} of the model {model.id} is lost or damaged in storage", code="corrupt_model")
