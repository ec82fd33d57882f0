"""Decode many images in processes that can be killed: a hostile file costs its own time limit and nothing else.

Images travel in batches, since a round trip to a process costs as much as decoding a small image. A batch that takes
too long, crashes or grows too large is given up, and its images are decoded one by one to find the culprit.
"""

import os
import resource
import signal
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import TimeoutError as DecodeTimeout
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pebble import ProcessExpired, ProcessFuture, ProcessPool

from models.preprocess import ImageLimits, UndecodableImage, decode, to_storage
from service.core.child import die_with_parent

MAX_PROCESSES = 8
MEMORY_BYTES = 2**30  # of a process, above what it has at its start
BATCH_IMAGES, BATCH_BYTES = 64, 512 * 1024
RESULT_BYTES = 32 * 2**20  # a batch answers with what it has once it holds more


@dataclass(frozen=True)
class Stored:
    """An image as it is packed, (h, w, 3) uint8, and its size before."""

    pixels: NDArray[np.uint8]
    width: int
    height: int


@dataclass(frozen=True)
class Refused:
    """Why an image can't be used."""

    code: str
    detail: str


Outcome = Stored | Refused
Member = tuple[str, bytes]  # name and content


class DecodingPool:
    """Processes that decode and reduce images; they die with this process. A context manager.

    Args:
        limits: Of an image.
        storage_side: Pixels to which a longer shorter side is reduced.
        timeout_seconds: Of a batch, and of an image alone.
    """

    def __init__(self, limits: ImageLimits, storage_side: int, *, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds
        self._num_processes = min(MAX_PROCESSES, os.cpu_count() or 1)
        self._pool = ProcessPool(
            self._num_processes,
            initializer=_start,
            initargs=(os.getpid(), limits, storage_side),
            context=get_context("spawn"),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._pool.stop()  # type: ignore[no-untyped-call]  # pebble's
        self._pool.join()

    def decode(self, members: Iterable[Member]) -> Iterator[tuple[str, Outcome]]:
        """Each member's name and outcome, in their order."""
        waiting: deque[tuple[list[Member], ProcessFuture[list[Outcome]]]] = deque()
        for batch in _batches(members):
            waiting.append((batch, self._submit(batch)))
            if len(waiting) > 2 * self._num_processes:
                yield from self._finish(*waiting.popleft())
        while waiting:
            yield from self._finish(*waiting.popleft())

    def _submit(self, batch: list[Member]) -> "ProcessFuture[list[Outcome]]":
        contents = [content for _, content in batch]
        return self._pool.schedule(_decode_batch, args=[contents], timeout=self.timeout_seconds)

    def _finish(self, batch: list[Member], future: "ProcessFuture[list[Outcome]]") -> Iterator[tuple[str, Outcome]]:
        try:
            outcomes = future.result()
        except (DecodeTimeout, ProcessExpired) as error:
            outcomes = [_blame(error)] if len(batch) == 1 else []
        names = [name for name, _ in batch]
        yield from zip(names, outcomes, strict=False)
        for member in batch[len(outcomes) :]:
            yield from self._finish([member], self._submit([member]))


def _blame(error: Exception) -> Refused:
    if isinstance(error, DecodeTimeout):
        return Refused("decode_timeout", "decoding it takes too long")
    return Refused("undecodable", "its decoder crashed")


def _batches(members: Iterable[Member]) -> Iterator[list[Member]]:
    batch: list[Member] = []
    num_bytes = 0
    for member in members:
        batch.append(member)
        num_bytes += len(member[1])
        if len(batch) == BATCH_IMAGES or num_bytes >= BATCH_BYTES:
            yield batch
            batch, num_bytes = [], 0
    if batch:
        yield batch


# What runs in the processes.

_work: tuple[ImageLimits, int]  # set once a process, since it is the same for all its batches


def _start(parent_pid: int, limits: ImageLimits, storage_side: int) -> None:
    global _work  # noqa: PLW0603  # the pool hands nothing from its initializer to its tasks
    die_with_parent(parent_pid, signal.SIGKILL)
    if sys.platform == "linux":  # elsewhere the limit isn't enforced
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    _work = limits, storage_side


def _decode_batch(contents: list[bytes]) -> list[Outcome]:
    """The outcomes of the first images, up to RESULT_BYTES of them."""
    outcomes: list[Outcome] = []
    num_bytes = 0
    for content in contents:
        outcome = _decode_one(content)
        outcomes.append(outcome)
        num_bytes += outcome.pixels.nbytes if isinstance(outcome, Stored) else 0
        if num_bytes > RESULT_BYTES:
            break
    return outcomes


def _decode_one(content: bytes) -> Outcome:
    limits, storage_side = _work
    try:
        image = decode(content, limits, storage_side)
        return Stored(to_storage(image.image, storage_side), image.width, image.height)
    except UndecodableImage as error:
        return Refused(error.code, error.detail)
    except MemoryError:
        return Refused("too_large", f"decoding it takes more than {MEMORY_BYTES} bytes of memory")
