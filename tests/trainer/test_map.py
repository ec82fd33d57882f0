"""Maps by UMAP."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.manifold import trustworthiness

from models.collection_map import MAP_FILE, MapRecipe, Points
from trainer.map import lay_out, main
from trainer.run import RunFolder, RunSpec
from trainer.vector_file import write_vectors

COLLECTION = "col_01jcz0000000000000000000vv"
RECIPE = MapRecipe(collection_id=COLLECTION, num_neighbors=10)


def clustered(num_clusters: int, each: int) -> NDArray[np.float32]:
    """Directions around a few others, cluster after cluster."""
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((num_clusters, 1, 32))
    vectors = (centres + 0.4 * draw.standard_normal((num_clusters, each, 32))).reshape(-1, 32)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def run_of(folder: Path, vectors: NDArray[np.float32]) -> RunFolder:
    run = RunFolder(folder)
    run.create(RunSpec(kind="map", recipe=RECIPE.model_dump()))
    ids = [f"{i:064x}" for i in range(len(vectors))]
    write_vectors(run.vectors, 32, [(ids[:50], vectors[:50]), (ids[50:], vectors[50:])])
    return run


def test_neighbours_stay_neighbours(tmp_path: Path) -> None:
    """Near by cosine is near on the map, and clusters stay whole; the same seed makes the same map, another another."""
    vectors = clustered(5, 40)
    run = run_of(tmp_path, vectors)
    assert main(run.path) == 0
    assert json.loads(run.result.read_bytes())["num_points"] == 200
    found = Points.load((run.output / MAP_FILE).read_bytes())
    assert found.image_ids == [f"{i:064x}" for i in range(200)]
    assert trustworthiness(vectors, found.points, n_neighbors=10, metric="cosine") > 0.9
    apart = np.linalg.norm(found.points[:, None] - found.points[None], axis=2)  # (N, N)
    np.fill_diagonal(apart, np.inf)
    assert (apart.argmin(axis=1) // 40 == np.arange(200) // 40).all()
    np.testing.assert_array_equal(lay_out(vectors, RECIPE), found.points)
    assert (lay_out(vectors, RECIPE.model_copy(update={"seed": 1})) != found.points).any()


@pytest.mark.parametrize("number", [0, 10])
def test_few_images_make_no_map(tmp_path: Path, number: int) -> None:
    """The error says how many there are and how many it takes."""
    run = run_of(tmp_path, clustered(1, 10)[:number])
    assert main(run.path) == 1
    error = json.loads(run.error.read_bytes())
    assert error["code"] == "too_few_images"
    assert error["message"].startswith(f"{number} images of the collection have a vector")
    assert "at least 11" in error["message"]
