import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from models.preprocess import ImageLimits, decode, to_storage
from tests.trainer.archives import HOSTILE, LIMITS, Members, make_tar, make_zip
from tests.trainer.images import image_file, slow_jpeg
from trainer import ingest
from trainer.pack import FILES, NO_LABEL, Pack
from trainer.run import INTERRUPTED, IngestLimits, RunFolder, RunSpec

IMAGE_LIMITS = ImageLimits(max_bytes=20 * 2**20, max_pixels=25_000_000, max_side=10_000)
CIFAR10_MINI = Path(__file__).parents[2] / "../shared/data/cifar10-mini.tar.gz"


@dataclass(frozen=True)
class Ingested:
    """What a run left behind."""

    run: RunFolder
    status: int

    @property
    def result(self) -> dict[str, Any]:
        return json.loads(self.run.result.read_text())  # type: ignore[no-any-return]

    @property
    def error(self) -> dict[str, Any]:
        return json.loads(self.run.error.read_text())  # type: ignore[no-any-return]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.run.events.read_text().splitlines()]

    @property
    def rejected(self) -> dict[str, str]:
        return {rejection["name"]: rejection["code"] for rejection in self.result["rejected"]}

    def pack(self) -> Pack:
        return Pack.open(self.run.output)


def prepare(folder: Path, archive: bytes, **recipe: Any) -> RunFolder:
    """A run folder that asks to ingest `archive`."""
    limits = IngestLimits(
        max_archive_bytes=2**30,
        max_archive_entries=100_000,
        max_archive_ratio=100,
        max_image_bytes=IMAGE_LIMITS.max_bytes,
        max_image_pixels=IMAGE_LIMITS.max_pixels,
        max_image_side=IMAGE_LIMITS.max_side,
        decode_timeout_seconds=5,
    )
    run = RunFolder(folder)
    run.create(RunSpec(kind="ingest", recipe=recipe, limits=limits))
    run.archive.write_bytes(archive)
    return run


Ingest = Callable[..., Ingested]


@pytest.fixture
def ingested(tmp_path: Path) -> Ingest:
    """Ingests an archive's bytes, or a tar of members, with a recipe's fields."""

    def ingest_(archive: bytes | Members, **recipe: Any) -> Ingested:
        content = archive if isinstance(archive, bytes) else make_tar(archive)
        run = prepare(tmp_path, content, **recipe)
        return Ingested(run, ingest.main(tmp_path))

    return ingest_


def test_a_pack_holds_the_decoded_images(ingested: Ingest) -> None:
    """Pixels, labels, splits and sums in the pack are those of decoding each member here, in the archive's order."""
    files = {
        "train/dog/1.jpg": image_file(1, size=(80, 50), format_="JPEG"),
        "train/cat/2.png": image_file(2, size=(20, 90)),
        "test/cat/3.webp": image_file(3, size=(33, 40), format_="WEBP"),
        "test/4.png": image_file(4),
    }
    outcome = ingested(make_zip(files.items()), storage_side=32)
    assert outcome.status == 0
    pack = outcome.pack()
    assert (pack.classes, pack.storage_side) == (("cat", "dog"), 32)
    assert pack.labels.tolist() == [1, 0, 0, NO_LABEL]
    assert [pack.split(name).tolist() for name in ("train", "test", "val")] == [[0, 1], [2, 3], []]
    for image, content in zip(pack.images(np.arange(4)), files.values(), strict=True):
        np.testing.assert_array_equal(image, to_storage(decode(content, IMAGE_LIMITS).pixels, 32))


def test_the_result_counts_what_is_in_the_pack(ingested: Ingest) -> None:
    """Classes, counts a split and class, and sizes before reduction are reported."""
    sizes = {"train/dog/1": (80, 50), "train/cat/2": (20, 90), "train/dog/3": (30, 30), "val/cat/4": (33, 40)}
    outcome = ingested(
        [(name, image_file(i, size=size)) for i, (name, size) in enumerate(sizes.items())], storage_side=32
    )
    assert outcome.result == {
        "num_images": 4,
        "num_duplicates": 0,
        "num_rejected": 0,
        "classes": ["cat", "dog"],
        "splits": {"train": {"num_images": 3, "per_class": [1, 2]}, "val": {"num_images": 1, "per_class": [1, 0]}},
        "image_sizes": {"min": [20, 30], "median": [31, 45], "max": [80, 90]},
        "rejected": [],
    }


def test_the_same_content_is_packed_once(ingested: Ingest) -> None:
    """Copies within a class count as duplicates, and the pack has the first alone."""
    outcome = ingested(
        [("cat/1", image_file(1)), ("cat/2", image_file(1)), ("cat/3", image_file(1)), ("dog/4", image_file(4))]
    )
    assert (outcome.result["num_images"], outcome.result["num_duplicates"]) == (2, 2)
    assert len(outcome.pack()) == 2


def test_an_image_in_train_and_test_is_kept_in_train(ingested: Ingest) -> None:
    """A test image that was trained on measures nothing: it stays in train, with a warning that counts such images."""
    shared = image_file(1)
    outcome = ingested(
        [("test/cat/1", shared), ("train/cat/2", shared), ("test/cat/3", image_file(3)), ("train/dog/4", image_file(4))]
    )
    assert {name: split["num_images"] for name, split in outcome.result["splits"].items()} == {"train": 2, "test": 1}
    (warning,) = (event for event in outcome.events if event["type"] == "warning")
    assert (warning["code"], warning["num_images"]) == ("split_overlap", 1)


def test_an_image_in_two_classes_is_rejected(ingested: Ingest) -> None:
    """Nobody knows which label is right, so all copies are rejected, and each names all places."""
    outcome = ingested(
        [("cat/1", image_file(1)), ("dog/2", image_file(1)), ("cat/3", image_file(3)), ("dog/4", image_file(4))],
        on_invalid="skip",
    )
    assert outcome.rejected == {"cat/1": "conflicting_classes", "dog/2": "conflicting_classes"}
    for rejection in outcome.result["rejected"]:
        assert "'cat/1' (class 'cat')" in rejection["detail"]
        assert "'dog/2' (class 'dog')" in rejection["detail"]
    assert outcome.pack().labels.tolist() == [0, 1]


INVALID = [
    ("cat/1.png", image_file(1)),
    ("cat/2.png", image_file(2)[:-30]),
    ("dog/3.png", image_file(3)),
    ("dog/notes.txt", b"some notes"),
    ("dog/copy of notes.txt", b"some notes"),
    ("dog/empty.png", b""),
    ("dog/4.gif", b"GIF89a"),
]
REASONS = {
    "cat/2.png": "undecodable",
    "dog/notes.txt": "unsupported_format",
    "dog/copy of notes.txt": "unsupported_format",
    "dog/empty.png": "undecodable",
    "dog/4.gif": "unsupported_format",
}


def test_one_invalid_file_fails_the_data_set(ingested: Ingest) -> None:
    """By default nothing is kept: the message has the number and the first three, the details have all."""
    outcome = ingested(INVALID)
    assert outcome.status == 1
    assert outcome.error["code"] == "invalid_images"
    assert outcome.error["message"].startswith("5 of the archive's files can't be used ('cat/2.png': ")
    assert outcome.error["message"].count("': ") == 3
    assert {r["name"]: r["code"] for r in outcome.error["details"]["rejected"]} == REASONS
    assert not outcome.run.result.exists()
    assert list(outcome.run.output.iterdir()) == []


def test_skipping_leaves_invalid_files_out(ingested: Ingest) -> None:
    """With on_invalid=skip the rest is packed, and every rejected file is listed, equal files each by name."""
    outcome = ingested(INVALID, on_invalid="skip")
    assert outcome.rejected == REASONS
    assert (outcome.result["num_images"], outcome.result["num_rejected"], outcome.result["num_duplicates"]) == (2, 5, 0)


def test_no_images_at_all(ingested: Ingest) -> None:
    """An archive without a single image fails, even when invalid files are skipped, and says which files it had."""
    outcome = ingested([("readme.txt", b"hello")], on_invalid="skip")
    assert outcome.error["code"] == "no_images"
    assert outcome.error["message"].startswith("none of the archive's 1 files is a readable image (readme.txt: ")
    assert outcome.error["details"]["rejected"][0]["name"] == "readme.txt"
    assert ingested(make_zip([])).error["code"] == "no_images"


def test_only_images_decide_the_layout(ingested: Ingest) -> None:
    """A readme beside the one folder doesn't turn that folder into a class, nor a folder of notes into another."""
    outcome = ingested(
        [("readme.txt", b"hello"), ("notes/1.txt", b"note"), ("photos/1.png", image_file(1))], on_invalid="skip"
    )
    assert outcome.result["classes"] == []


@pytest.mark.parametrize(("code", "build"), HOSTILE.values(), ids=HOSTILE)
def test_nothing_of_a_hostile_archive_is_kept(tmp_path: Path, code: str, build: Callable[[], bytes]) -> None:
    """A refused archive leaves error.json with its code, an empty output and no file anywhere else."""
    run = prepare(tmp_path / "run", build())
    spec = json.loads(run.spec_path.read_text())
    spec["limits"] |= {f"max_archive_{name}": LIMITS[f"max_{name}"] for name in ("bytes", "entries", "ratio")}
    spec["limits"]["max_image_bytes"] = LIMITS["max_member_bytes"]
    run.spec_path.write_text(json.dumps(spec))
    assert ingest.main(run.path) == 1
    assert json.loads(run.error.read_text())["code"] == code
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"spec.json", "archive", "events.jsonl", "error.json"}


def test_a_full_disk_is_named(ingested: Ingest, tmp_path: Path) -> None:
    """When the disk has no space the job fails with `storage_full` and keeps no part of the pack."""
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "pixels.bin").symlink_to("/dev/full")
    outcome = ingested([("1.png", image_file(1, size=(200, 200))), ("2.png", image_file(2))])
    assert outcome.error["code"] == "storage_full"
    assert list(outcome.run.output.iterdir()) == []


def test_progress_is_reported(ingested: Ingest) -> None:
    """Stage events climb to the number of images, and aren't sent for every one."""
    outcome = ingested([(f"{i}.png", image_file(i)) for i in range(150)])
    steps = [(event["step"], event["steps"]) for event in outcome.events if event.get("stage") == "unpacking"]
    assert steps[-1] == (150, 150)
    assert steps == sorted(steps)
    assert len(steps) < 50


def test_decoding_obeys_its_time_limit(tmp_path: Path) -> None:
    """An image of two seconds is refused where the run folder's decode_timeout_seconds gives it a quarter of one."""
    run = prepare(tmp_path, make_tar([("slow.jpg", slow_jpeg())]))
    spec = json.loads(run.spec_path.read_text())
    spec["limits"]["decode_timeout_seconds"] = 0.25
    run.spec_path.write_text(json.dumps(spec))
    outcome = Ingested(run, ingest.main(tmp_path))
    assert [rejection["code"] for rejection in outcome.error["details"]["rejected"]] == ["decode_timeout"]


def _start(folder: Path) -> tuple["subprocess.Popen[bytes]", list[psutil.Process]]:
    """A running ingestion that would take minutes, and its decoding processes."""
    run = prepare(folder, make_tar([("bomb.jpg", slow_jpeg(20_000)), ("1.png", image_file(1))]))
    process = subprocess.Popen([sys.executable, "-m", "trainer.ingest", str(run.path)])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        children = psutil.Process(process.pid).children(recursive=True)
        if sum(child.cpu_times().user for child in children) > 1:
            return process, children
        assert process.poll() is None
    raise AssertionError("the ingestion started no decoding process")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, INTERRUPTED), (signal.SIGKILL, -signal.SIGKILL)])
def test_no_process_is_left_behind(tmp_path: Path, number: signal.Signals, status: int) -> None:
    """Stopped in the middle of decoding, the run ends at once, its decoders with it, without a result or an error."""
    process, children = _start(tmp_path)
    process.send_signal(number)
    assert process.wait(timeout=3) == status
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []
    run = RunFolder(tmp_path)
    assert not run.result.exists()
    assert not run.error.exists()


def test_cifar10(ingested: Ingest) -> None:
    """6,000 real images become 5,000 + 1,000 in ten even classes, without duplicates or rejections."""
    if not CIFAR10_MINI.exists() and not os.environ.get("CI"):
        pytest.skip(f"{CIFAR10_MINI} is not here")
    outcome = ingested(CIFAR10_MINI.read_bytes())
    assert outcome.result["splits"] == {
        "train": {"num_images": 5000, "per_class": [500] * 10},
        "test": {"num_images": 1000, "per_class": [100] * 10},
    }
    assert (outcome.result["num_duplicates"], outcome.result["num_rejected"]) == (0, 0)
    assert outcome.result["classes"] == sorted(outcome.result["classes"])
    assert len(outcome.result["classes"]) == 10
    assert sorted(path.name for path in outcome.run.output.iterdir()) == sorted(FILES)
