"""The files of a model in storage."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from models.embedder import Embedder, has_gpu
from models.variants import FILES, Variant
from service.core.errors import Conflict, NotFound, Unavailable
from service.core.storage import Storage, sha256_of
from service.core.tables import Model

CPUINFO = Path("/proc/cpuinfo")
DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "asimddp"}  # flags of CPUs that multiply in 8 bits without saturating


def serving_variant(model: Model, wanted: Variant | Literal["auto"]) -> Variant:
    """The variant that serves a model: the wanted one, or float32 where that isn't published.

    auto is float16 on a GPU, and int8 on a CPU with instructions for it: on others it is slower, and less exact.
    """
    if wanted == "auto":
        wanted = "float16" if has_gpu() else "int8" if _has_dot_products() else "float32"
    return wanted if FILES[wanted] in model.files else "float32"


def _has_dot_products() -> bool:
    try:
        return not DOT_PRODUCTS.isdisjoint(CPUINFO.read_text().split())
    except FileNotFoundError:  # not on Linux
        return False


def open_variant(
    storage: Storage, model: Model, variant: Variant, *, num_threads: int, has_lanes: bool = False
) -> Embedder:
    """A variant, verified and opened as an Embedder is. Raises Unavailable (`model_damaged`, `unreadable_model`)."""
    with TemporaryDirectory() as folder:
        path = _fetch_onnx(storage, model, variant, Path(folder))
        try:
            return Embedder(path, num_threads=num_threads, has_lanes=has_lanes)
        except ValueError as error:
            raise Unavailable(f"the model {model.id} does not serve: {error}", code="unreadable_model") from error


def _fetch_onnx(storage: Storage, model: Model, variant: Variant, folder: Path) -> Path:
    """A variant's ONNX file, copied to `folder` unless the storage is local. Raises Unavailable (`model_damaged`)."""
    file = model.files[FILES[variant]]
    path = storage.fetch(file["key"], folder / FILES[variant])
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
