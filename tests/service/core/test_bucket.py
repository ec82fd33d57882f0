"""A storage that starts empty gets its bucket."""

import socket
from typing import Any

import boto3
import pytest

from service.core.bucket import UnusableStorage, create_bucket
from service.core.settings import Settings
from service.core.storage import open_storage


def settings(endpoint: str, bucket: str, region: str = "us-east-1") -> Settings:
    options = {"endpoint": endpoint, "region": region, "access_key_id": "key", "secret_access_key": "secret"}
    return Settings(storage_url=f"s3://{bucket}/prefix", storage_options=options)


def client(endpoint: str, region: str = "us-east-1") -> Any:
    return boto3.client(
        "s3", endpoint_url=endpoint, region_name=region, aws_access_key_id="key", aws_secret_access_key="secret"
    )


def test_the_bucket_is_made_and_takes_blobs(endpoint: str) -> None:
    """The storage that the same settings open writes into it; asking for it again changes nothing."""
    create_bucket(settings(endpoint, "made"))
    open_storage(settings(endpoint, "made")).put("a/blob", b"content")
    create_bucket(settings(endpoint, "made"))
    (stored,) = client(endpoint).list_objects_v2(Bucket="made")["Contents"]
    assert stored["Key"] == "prefix/a/blob"


def test_a_bucket_that_is_there_is_fine(endpoint: str) -> None:
    """Also where the storage says so by 409, as outside the first region."""
    europe = "eu-west-1"
    client(endpoint, europe).create_bucket(Bucket="old", CreateBucketConfiguration={"LocationConstraint": europe})
    create_bucket(settings(endpoint, "old", europe))


def test_a_refusal_is_told(endpoint: str) -> None:
    """The message has the bucket's name and what the storage said."""
    with pytest.raises(UnusableStorage, match=r"'x' with 400: (?s:.*)InvalidBucketName"):
        create_bucket(settings(endpoint, "x"))


def test_a_storage_that_is_away_is_named() -> None:
    """The message says which setting has its address."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(UnusableStorage, match="SIMCLR_STORAGE_OPTIONS"):
            create_bucket(settings(f"http://127.0.0.1:{closed.getsockname()[1]}", "any"))
