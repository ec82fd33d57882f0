"""Vectors in a run folder: what a job's process gets instead of the database.

Legend: N vectors, D their size.

    vectors/h.f32       float32 (N, D), of length 1
    vectors/about.json  {"size": D, "image_ids": [...]}, written last
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.run import write_atomically

Block = tuple[list[str], NDArray[np.float32]]  # ids, and their vectors (rows, D)


def write_vectors(folder: Path, size: int, blocks: Iterable[Block]) -> None:
    """Write vectors block by block; no more than one is in memory."""
    folder.mkdir(exist_ok=True)
    image_ids: list[str] = []
    with (folder / "h.f32").open("wb") as file:
        for ids, vectors in blocks:
            image_ids += ids
            vectors.tofile(file)
    write_atomically(folder / "about.json", json.dumps({"size": size, "image_ids": image_ids}).encode())


def read_vectors(folder: Path) -> Block:
    """All ids, and their vectors (N, D)."""
    about = json.loads((folder / "about.json").read_bytes())
    return about["image_ids"], np.fromfile(folder / "h.f32", np.float32).reshape(-1, about["size"])
