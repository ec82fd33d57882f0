"""Blobs in S3-compatible storage are backed up and restored as those in a folder are."""

import boto3

from service.backup.folder import BackupFolder
from service.backup.restoring import put_blobs
from service.core.storage import ObjectStorage
from tests.service.backup.conftest import Full

CREDENTIALS = {"access_key_id": "key", "secret_access_key": "secret", "region": "us-east-1"}


def test_from_one_bucket_to_another(full: Full, endpoint: str) -> None:
    """Every blob is in the second as it was in the first; one that the first lacks is named."""
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=endpoint, **keys)
    for name in ("first", "second"):
        client.create_bucket(Bucket=name)
    options = {"endpoint": endpoint, **CREDENTIALS}
    first, second = (ObjectStorage(f"s3://{name}/prefix", options) for name in ("first", "second"))
    lost = "models/mdl_1/model.onnx"
    for key, content in full.blobs.items():
        first.put(key, content)
    first.delete(lost)
    manifest = full.back_up(first)
    assert manifest.lost == {lost: "is not in the storage"}
    put_blobs(BackupFolder(full.target).blobs, second, manifest.blobs, lambda *_: None)
    assert {key: second.get(key) for key in manifest.blobs} == {
        key: content for key, content in full.blobs.items() if key != lost
    }
