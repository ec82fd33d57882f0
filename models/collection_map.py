"""A collection in two dimensions: how a job lays it out, and the file that it leaves. No torch.

Legend: N images.

    map.npz    image_ids (N,) bytes; points (N, 2) float32
"""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.config import Frozen

MAP_FILE = "map.npz"


class MapRecipe(Frozen):
    """Lay the vectors of a collection out in two dimensions, near ones near each other."""

    collection_id: str = Field(pattern=r"^col_[0-9a-hjkmnp-tv-z]{26}$", description="Id of the collection.")
    layer: Literal["h"] = "h"
    method: Literal["umap"] = "umap"
    num_neighbors: int = Field(
        15, ge=2, le=200, description="That an image is kept near to: few show small groups, many the whole."
    )
    min_distance: float = Field(0.1, ge=0, le=1, description="Between points: 0 packs what is alike.")
    seed: int = Field(0, ge=0, lt=2**31, description="The same vectors and seed make the same map.")


@dataclass(frozen=True)
class Points:
    """Where images are on a map."""

    image_ids: list[str]
    points: NDArray[np.float32]  # (N, 2)

    def save(self, path: Path) -> None:
        """Write the file."""
        np.savez(path, image_ids=np.array(self.image_ids, np.bytes_), points=self.points)

    @classmethod
    def load(cls, content: bytes) -> Self:
        """Read the file's content; nothing in it is executed."""
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return cls([image_id.decode() for image_id in file["image_ids"].tolist()], file["points"])
