"""Make an archive to try the service with: `python -m trainer.sample_data OUT.tar.gz`.

CIFAR-10 where torchvision can download it, a drawn set (trainer/drawn_images.py) where it can't. Prints one line of
JSON: {"source": "cifar10" | "generated", "num_train", "num_test"}.
"""

import argparse
import io
import json
import socket
import sys
import tarfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from gzip import GzipFile
from http.client import HTTPException
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainer.drawn_images import SHAPES, draw

NUM_CLASSES = 10  # of both sources
CONNECT_SECONDS = 10.0  # to find out whether there is a network
SILENCE_SECONDS = 10.0  # a download that sends nothing for longer has failed

Classes = dict[str, NDArray[np.uint8]]  # class name -> its images, (M, S, S, 3) uint8


def generated(num_images: int, *, seed: int) -> Classes:
    """Drawn images, as many of each class as of any other, or one more."""
    counts = per_class(num_images)
    return {name: draw(name, counts[i], np.random.default_rng([seed, i])) for i, name in enumerate(SHAPES)}


def cifar10(num_images: int, folder: Path, *, train: bool) -> Classes:
    """The first images of each class of a split of CIFAR-10, which is downloaded to `folder` once.

    Raises OSError or RuntimeError if that fails.
    """
    # Imported here since it takes seconds and drawing does without; it has no types.
    from torchvision.datasets import CIFAR10  # type: ignore[import-untyped]  # noqa: PLC0415

    is_here = (folder / CIFAR10.base_folder).is_dir()
    if not is_here and not is_online(CIFAR10.url):
        raise ConnectionError(f"{CIFAR10.url} does not answer")
    data = CIFAR10(str(folder), train=train, download=True)
    labels = np.array(data.targets)
    counts = per_class(num_images)
    return {name: data.data[labels == i][: counts[i]] for i, name in enumerate(data.classes)}


def per_class(num_images: int) -> list[int]:
    """How many of `num_images` each class gets."""
    return [len(range(label, num_images, NUM_CLASSES)) for label in range(NUM_CLASSES)]


def is_online(url: str) -> bool:
    """Whether the host answers within CONNECT_SECONDS, however long the name server takes."""
    answered = threading.Event()

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310  # an address of torchvision's
        with suppress(OSError, HTTPException), urllib.request.urlopen(request, timeout=CONNECT_SECONDS):  # noqa: S310  # the same
            answered.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    return answered.is_set()


def write_archive(path: Path, splits: dict[str, Classes]) -> None:
    """A tar.gz of SPLIT/CLASS/NNNN.png; the same images give the same bytes."""
    with (
        path.open("wb") as file,
        GzipFile(filename="", fileobj=file, mode="wb", compresslevel=1, mtime=0) as packed,  # PNG is compressed already
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for name, content in _members(splits):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def _members(splits: dict[str, Classes]) -> Iterator[tuple[str, bytes]]:
    for split, classes in splits.items():
        for class_name, images in classes.items():
            for number, image in enumerate(images):
                buffer = io.BytesIO()
                Image.fromarray(image).save(buffer, "PNG")
                yield f"{split}/{class_name}/{number:04}.png", buffer.getvalue()


def main(arguments: list[str]) -> None:
    """Parse the arguments, write the archive, print the line."""
    parser = argparse.ArgumentParser(prog="python -m trainer.sample_data")
    parser.add_argument("out", type=Path, help="the tar.gz to write; CIFAR-10 is kept beside it for the next time")
    parser.add_argument("--num-train", type=int, default=5000)
    parser.add_argument("--num-test", type=int, default=1000)
    parser.add_argument("--generated", action="store_true", help="draw images even where there is a network")
    options = parser.parse_args(arguments)
    source = "generated"
    splits = None if options.generated else _downloaded(options.out.parent, options.num_train, options.num_test)
    if splits:
        source = "cifar10"
    else:
        splits = {"train": generated(options.num_train, seed=0), "test": generated(options.num_test, seed=1)}
    write_archive(options.out, splits)
    counts = {f"num_{split}": sum(map(len, classes.values())) for split, classes in splits.items()}
    print(json.dumps({"source": source, **counts}))  # noqa: T201  # the command's answer


def _downloaded(folder: Path, num_train: int, num_test: int) -> dict[str, Classes] | None:
    socket.setdefaulttimeout(SILENCE_SECONDS)
    try:
        return {"train": cifar10(num_train, folder, train=True), "test": cifar10(num_test, folder, train=False)}
    except (OSError, RuntimeError, HTTPException) as error:
        print(f"CIFAR-10 can't be downloaded ({error}); drawing images instead", file=sys.stderr)  # noqa: T201  # the same
        return None


if __name__ == "__main__":
    main(sys.argv[1:])
