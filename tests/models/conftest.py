"""The model that the tests of export and embedding share; exporting takes seconds."""

from pathlib import Path

import pytest

from models.export import Sample, export_model
from tests.models.exported import RECIPE, network
from tests.models.image_files import noise


@pytest.fixture(scope="session")
def exported_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the export of `network()`; not to be changed."""
    folder = tmp_path_factory.mktemp("exported")
    images = noise(7 * 32, 32).reshape(7, 32, 32, 3)
    export_model(
        network(), RECIPE, Sample(images, noise(16 * 32, 32, seed=2).reshape(16, 32, 32, 3), ("a", "b")), folder
    )
    return folder
