"""The bucket of an S3-compatible storage, for operators of one that starts empty."""

from datetime import timedelta
from urllib.parse import urlsplit

import httpx
import obstore
from obstore.store import S3Store

from service.core.settings import Settings

SIGNED_FOR = timedelta(minutes=1)
TIMEOUT_SECONDS = 10


class UnusableStorage(RuntimeError):
    """The storage can't hold the service's blobs; the message says what it answered."""


def create_bucket(settings: Settings) -> None:
    """Create the bucket that the settings name; one that is there is fine. Raises UnusableStorage."""
    name = urlsplit(settings.storage_url).netloc
    store = S3Store(name, config=settings.storage_options)  # type: ignore[arg-type]  # a plain dict
    try:
        response = httpx.put(obstore.sign(store, "PUT", "", SIGNED_FOR), timeout=TIMEOUT_SECONDS)
    except httpx.TransportError as error:
        raise UnusableStorage(f"the storage doesn't answer ({error}); see SIMCLR_STORAGE_OPTIONS") from error
    is_there = response.status_code == httpx.codes.CONFLICT and "BucketAlready" in response.text
    if not (response.is_success or is_there):
        raise UnusableStorage(f"the storage refused bucket {name!r} with {response.status_code}: {response.text[:500]}")
