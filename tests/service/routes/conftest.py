"""What the tests of images, embeddings and search share."""

from collections.abc import Iterator

import pytest

from service.core.settings import Settings
from service.core.storage import LocalStorage
from tests.service.conftest import serving


@pytest.fixture
def storage(api_settings: Settings) -> Iterator[LocalStorage]:
    """The API's own storage; its images are gone after the test."""
    storage = LocalStorage(api_settings.storage_dir)
    yield storage
    storage.delete("images")


@pytest.fixture(scope="session")
def keyed_url(api_settings: Settings) -> Iterator[str]:
    """A running API that requires keys."""
    with serving(api_settings.model_copy(update={"auth": "on"})) as url:
        yield url
