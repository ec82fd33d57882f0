"""`simclr embed`."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from service.client import ApiError
from service.commands import output
from service.commands.connection import LOCAL, Url, connected
from service.local_files import batches, nothing_found, read_images
from service.saving import whole_file

Sources = Annotated[list[Path], typer.Argument(metavar="IMAGE...", exists=True, help="Images, folders or archives.")]
Out = Annotated[Path | None, typer.Option(dir_okay=False, help="NumPy file, a row for each image in this order.")]
ModelName = Annotated[str | None, typer.Option(help="Id or alias.", show_default="the model in production")]
Layer = Annotated[str, typer.Option(help="h, or another layer that the model exports.")]


def embed(sources: Sources, out: Out = None, model: ModelName = None, layer: Layer = "h", url: Url = LOCAL) -> None:
    """Turn images into vectors: a NumPy file, or a line of JSON for each.

    Example: simclr embed photos/*.jpg --out vectors.npy
    """
    with connected(url) as client:
        parts, num_images = [], 0
        for batch in batches(image for source in sources for image in read_images(source)):
            files = [(str(image.path), image.content) for image in batch]
            with _failures_by_name([name for name, _ in files]):
                parts.append(client.embed(files, model=model, layer=layer))
            num_images += len(files)
            if out is None:
                for (name, _), vector in zip(files, parts.pop(), strict=True):
                    typer.echo(json.dumps({"file": name, "vector": vector.tolist()}))
        if not num_images:
            raise nothing_found(sources[0])
        if out is not None:
            _write(out, parts)


@contextmanager
def _failures_by_name(names: Sequence[str]) -> Iterator[None]:
    """The service knows the images of a request by their positions, people by their names."""
    try:
        yield
    except ApiError as error:
        failed = [f"{names[int(field)]}: {reason}" for field, reason in error.errors.items() if field.isdecimal()]
        if not failed:
            raise
        raise ValueError("; ".join(failed)) from error


def _write(path: Path, parts: Sequence[NDArray[np.float32]]) -> None:
    vectors = np.concatenate(parts)
    with whole_file(path) as file:
        np.save(file, vectors)
    rows, columns = vectors.shape
    output.console.print(f"wrote {path}: {rows} x {columns} float32", markup=False, soft_wrap=True)
