"""A person's own folder or archive is read the same whatever it comes in."""

import io
import os
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest
import zstandard

from service.client.sending import named
from service.local_files import LocalImage, batches, pack_folder, read_images

FILES = {
    "train/cat/1.jpg": b"one",
    "train/dog/2.PNG": b"two",
    "test/cat/3.webp": b"three",
    "notes.txt": b"no image",
    "train/cat/.DS_Store": b"junk",
    "train/cat/._1.jpg": b"what macOS keeps beside a file",
    "__MACOSX/train/cat/1.jpg": b"the same in its archives",
}
EXPECTED = {("cat", False, b"one"), ("dog", False, b"two"), ("cat", True, b"three")}


def folder(path: Path) -> Path:
    for name, content in FILES.items():
        target = path / "images" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return path / "images"


def tar_bytes() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def source(kind: str, tmp_path: Path) -> Path:
    if kind == "folder":
        return folder(tmp_path)
    path = tmp_path / f"images.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in FILES.items():
                archive.writestr(name, content)
    elif kind == "tar.gz":
        with tarfile.open(path, "w:gz") as compressed:
            compressed.add(folder(tmp_path), arcname=".")
    else:
        path.write_bytes(zstandard.compress(tar_bytes()) if kind == "tar.zst" else tar_bytes())
    return path


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tar.gz", "tar.zst"])
def test_every_container_gives_the_same_images(kind: str, tmp_path: Path) -> None:
    """Labels are the folders, the split is known, other files are left out."""
    found = {(image.label, image.is_test, image.content) for image in read_images(source(kind, tmp_path))}
    assert found == EXPECTED


def test_a_single_image_is_a_source_too(tmp_path: Path) -> None:
    """One file gives one image without a label."""
    (tmp_path / "cat.jpg").write_bytes(b"one")
    assert [(image.label, image.content) for image in read_images(tmp_path / "cat.jpg")] == [(None, b"one")]


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    """The message says which containers are read."""
    (tmp_path / "x.rar").write_bytes(b"Rar!" * 400)
    with pytest.raises(ValueError, match=r"neither a folder nor a zip, tar, tar\.gz or tar\.zst archive"):
        list(read_images(tmp_path / "x.rar"))


def test_a_packed_folder_holds_its_images(tmp_path: Path) -> None:
    """The archive made for an upload has the same images under the same paths."""
    images = folder(tmp_path)
    pack_folder(images, tmp_path / "packed.tar")
    assert list(read_images(tmp_path / "packed.tar")) == list(read_images(images))


def test_a_folder_without_images_is_not_packed(tmp_path: Path) -> None:
    """The message names the endings of image files."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no image with a name ending in \.jpg"):
        pack_folder(tmp_path / "empty", tmp_path / "packed.tar")


def test_batches_are_bounded_by_number_and_by_size() -> None:
    """No batch is over either bound, but an image that is larger alone; all images come, in order."""
    images = [LocalImage(PurePosixPath(f"{i}.jpg"), bytes(size)) for i, size in enumerate([1, 1, 1, 9, 1, 5, 5, 1])]
    cut = list(batches(images, num_images=2, num_bytes=8))
    assert [[len(image.content) for image in batch] for batch in cut] == [[1, 1], [1], [9], [1, 5], [5, 1]]
    assert [image for batch in cut for image in batch] == images


def test_a_name_that_is_no_utf_8_can_be_sent(tmp_path: Path) -> None:
    """As of an old archive, or of another system."""
    (tmp_path / os.fsdecode(b"bad\xff.jpg")).write_bytes(b"x")
    assert [image.path.name for image in read_images(tmp_path)] == ["bad\N{REPLACEMENT CHARACTER}.jpg"]
    assert named(tmp_path / os.fsdecode(b"bad\xff.jpg")) == ("bad\N{REPLACEMENT CHARACTER}.jpg", b"x")
