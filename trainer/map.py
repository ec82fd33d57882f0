"""Lay vectors out in two dimensions by UMAP: `python -m trainer.map RUN_FOLDER`.

Legend: N vectors, D their size.

UMAP draws a graph of each vector's nearest neighbours, by cosine, and moves points until their neighbours are the same.
With a seed it works in one thread, and the same vectors make the same map. umap-learn compiles itself when it is
imported, which takes seconds: nothing but this process imports it.
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import umap
from numpy.typing import NDArray

from models.collection_map import MAP_FILE, MapRecipe, Points
from trainer.run import RunError, RunFolder
from trainer.vector_file import read_vectors


def lay_out(vectors: NDArray[np.float32], recipe: MapRecipe) -> NDArray[np.float32]:
    """Vectors (N, D), none of them zero, to points (N, 2). Raises RunError (`too_few_images`)."""
    if len(vectors) <= recipe.num_neighbors:
        raise RunError(
            "too_few_images",
            f"{len(vectors)} images of the collection have a vector; a map with num_neighbors {recipe.num_neighbors}"
            f" needs at least {recipe.num_neighbors + 1}: upload more, or lower recipe.num_neighbors",
        )
    method = umap.UMAP(
        n_neighbors=recipe.num_neighbors,
        min_dist=recipe.min_distance,
        metric="cosine",
        random_state=recipe.seed,
        n_jobs=1,
        disconnection_distance=3.0,  # beyond any cosine: a lone vector has its point too
    )
    points: NDArray[np.float32] = method.fit_transform(vectors).astype(np.float32)
    return points


def run_map(run: RunFolder) -> dict[str, Any]:
    """Write the map of the folder's vectors; the content of result.json."""
    recipe = MapRecipe.model_validate(run.spec().recipe)
    image_ids, vectors = read_vectors(run.vectors)
    run.emit("stage", stage="lay out", num_images=len(image_ids))
    started = time.monotonic()
    points = lay_out(vectors, recipe)
    Points(image_ids, points).save(run.output / MAP_FILE)
    return {"num_points": len(image_ids), "seconds": round(time.monotonic() - started, 1)}


def main(path: Path) -> int:
    """Do what the run folder asks for; the exit status."""
    run = RunFolder(path)
    try:
        run.succeed(run_map(run))
    except RunError as error:
        run.fail(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
