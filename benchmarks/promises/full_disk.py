"""A storage whose disk fills up: uploads are refused whole, and what is stored is read on.

The disk is a file system of some megabytes in memory, which takes root to mount.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
from api_server import running_api
from promises.ledger import Ledger

from service.core.db import Database
from service.core.storage import LocalStorage
from tests.models.image_files import encode, noise
from tests.small_models import publish

DISK_MB, FLOOR_MB = 64, 16
PIECE = bytes(2**20)
UPLOAD = encode(noise(64, 64), "png")


def measure(ledger: Ledger, folder: Path, database_url: str) -> None:
    """Fill a disk, down to the floor and then to the last byte; enter the answers."""
    if os.geteuid():
        ledger.note(full_disk="not measured: to mount a small file system takes root")
        return
    with small_disk(folder / "disk") as disk:
        with closing(Database(database_url)) as database:
            publish(database, LocalStorage(disk / "storage"))
        settings = {"data_dir": str(disk), "min_free_bytes": str(FLOOR_MB * 2**20)}
        with (
            running_api(folder, database_url, **settings) as server,
            httpx.Client(base_url=server.url, timeout=20, trust_env=False) as http,
        ):
            (stored,) = _upload(http, UPLOAD).json()["items"]
            before = _files(disk)
            refused, read, ready = [], [], []
            for left_mb in (FLOOR_MB - 2, 0):
                fill(disk, left_mb)
                refused += [_upload(http, encode(noise(64, 64, seed=1), "png")), _upload_archive(http)]
                read += _reads(http, stored["id"])
                ready.append(http.get("/readyz").status_code)
            left_over = _files(disk) - before - {disk / "ballast"}
            (disk / "ballast").unlink()
            again = _upload(http, encode(noise(64, 64, seed=2), "png")).status_code
    promise = "disk full: uploads get 507, down to the floor and to the last byte"
    ledger.same("full_disk_statuses", promise, {507}, {answer.status_code for answer in refused})
    ledger.none("left_by_refused", "disk full: nothing is kept of what is refused", len(left_over), of="files")
    failed = sum(not answer.is_success for answer in read)
    ledger.none(
        "full_disk_reads_failed", "disk full: reads, searches and embeddings go on", failed, of=f"of {len(read)}"
    )
    ledger.same(
        "full_disk_readyz",
        "disk full: not ready; with space again, an upload is stored",
        "503, 200",
        f"{min(ready)}, {again}",
    )


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", folder],  # noqa: S607
        check=False,
    )
    if mounted.returncode:
        sys.exit("a small file system can't be mounted here, though this is root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)  # noqa: S607


def fill(disk: Path, left_mb: int) -> None:
    """Write until only so much is left."""
    with (disk / "ballast").open("ab") as file:
        while (free := shutil.disk_usage(disk).free) > left_mb * 2**20:
            file.write(PIECE[: min(len(PIECE), free - left_mb * 2**20)])
            file.flush()


def _upload(http: httpx.Client, content: bytes) -> httpx.Response:
    return http.post("/v1/images", files={"files": ("a.png", content)}, data={"collection": "disk"})


def _upload_archive(http: httpx.Client) -> httpx.Response:
    return http.post("/v1/datasets", files={"file": ("a.tar", bytes(200_000))}, data={"name": "too much"})


def _reads(http: httpx.Client, image_id: str) -> list[httpx.Response]:
    return [
        http.get("/v1/images", params={"collection": "disk"}),
        http.get(f"/v1/images/{image_id}/content"),
        http.post("/v1/search", json={"collection": "disk", "image_id": image_id}),
        http.post("/v1/embeddings", files={"files": ("a.png", UPLOAD)}),
    ]


def _files(disk: Path) -> set[Path]:
    """All but what `/readyz` writes, and what an API that runs may write of itself."""
    return {path for path in (disk / "storage").rglob("*") if path.is_file() and path.name != "health"}
