"""Batches without timers: what waits is computed as soon as there is a core for it.

Legend: M images, S image side, D size of a layer.

ONNX Runtime can cut each operation of a batch into pieces for all cores and wait for the last, or compute a batch on
one core, in a lane, beside other batches. The first is there sooner. The second does more in the same time: no core
waits for another, and one that is disturbed, by a decoder or by requests that are refused, holds up nobody else. So
images that would leave a core idle are computed on all cores, and those that cost so little that lanes gain less than
more batches cost; others in lanes (docs/decisions/0025).
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from models.embedder import Embedder
from service.cores import Cores
from service.instruments import BATCH_IMAGES, STAGE_SECONDS
from service.scheduling import give_way
from service.together import together

MAX_BATCH = 64  # images, also of all lanes together
PART = 4  # images of a request that may have a lane to themselves
SMALL_SECONDS = 0.005  # an image that costs less of a core gains nothing in a lane, and each batch costs the event loop
LANE_SECONDS = 0.15  # a batch of a lane: longer ones are no faster, and come later
WEIGHT = 1 / 4  # of the newest batch in the moving average of what an image costs


@dataclass(frozen=True)
class Embedded:
    """Vectors (M, D) float32; how long their images waited and were computed, and among how many.

    Of several batches the most of each.
    """

    vectors: NDArray[np.float32]
    queue_seconds: float
    compute_seconds: float
    num_in_batch: int


@dataclass
class _Part:
    """Images of one request, (S, S, 3) uint8 each, that go into one batch together."""

    embedder: Embedder
    layer: str
    images: Sequence[NDArray[np.uint8]]
    done: asyncio.Future[Embedded]
    entered_at: float

    def fits(self, other: "_Part") -> bool:
        """Whether the same call can compute both."""
        return self.embedder is other.embedder and self.layer == other.layer


class Batcher:
    """Computes embeddings for the requests of one event loop, in so many lanes; in one, each batch has all cores."""

    def __init__(self, cores: Cores, num_lanes: int) -> None:
        self._cores = cores
        self._num_lanes = num_lanes
        self._part = max(1, min(PART, MAX_BATCH // num_lanes)) if num_lanes > 1 else MAX_BATCH
        self._seconds: WeakKeyDictionary[Embedder, float] = WeakKeyDictionary()  # of a core, that an image costs
        self._threads = ThreadPoolExecutor(num_lanes, "embed", initializer=give_way)
        self._waiting: deque[_Part] = deque()
        self._running: set[asyncio.Task[None]] = set()
        cores.on_free = self._begin

    async def embed(self, embedder: Embedder, images: Sequence[NDArray[np.uint8]], layer: str) -> Embedded:
        """M images (S, S, 3) uint8 to a layer, (M, D) float32; the caller has seen that there is room for so many."""
        size = self._part
        parts = [self._enter(embedder, images[start : start + size], layer) for start in range(0, len(images), size)]
        self._begin()
        results = await together([part.done for part in parts])
        return Embedded(
            np.concatenate([result.vectors for result in results]),
            max(result.queue_seconds for result in results),
            max(result.compute_seconds for result in results),
            max(result.num_in_batch for result in results),
        )

    def _enter(self, embedder: Embedder, images: Sequence[NDArray[np.uint8]], layer: str) -> _Part:
        done = asyncio.get_running_loop().create_future()
        part = _Part(embedder, layer, images, done, time.monotonic())
        self._waiting.append(part)
        return part

    def _begin(self) -> None:
        """Take what waits to the cores that are free: one each, or all if one would have nothing to do."""
        while self._waiting and self._cores.num_free and len(self._running) < self._num_lanes:
            are_all_free = self._cores.num_free >= self._num_lanes
            num_waiting = sum(len(part.images) for part in self._waiting)
            seconds = self._seconds.get(self._waiting[0].embedder, LANE_SECONDS / PART)
            if seconds < SMALL_SECONDS and not are_all_free:
                break  # they come with what is being decoded, when that and the batch before are done
            in_lane = seconds >= SMALL_SECONDS and (num_waiting >= self._num_lanes > 1 or not are_all_free)
            if batch := self._take(self._share(num_waiting, seconds) if in_lane else MAX_BATCH):
                num_cores = 1 if in_lane else self._num_lanes
                self._cores.take(num_cores)
                task = asyncio.create_task(self._compute(batch, num_cores))
                self._running.add(task)
                task.add_done_callback(partial(self._end, num_cores))

    def _share(self, num_waiting: int, seconds: float) -> int:
        """Of what waits, the images for a lane that is free: no more than it computes in its time."""
        num_free = min(self._cores.num_free, self._num_lanes - len(self._running))
        return min(max(1, MAX_BATCH // self._num_lanes), math.ceil(num_waiting / num_free), int(LANE_SECONDS / seconds))

    def _end(self, num_cores: int, task: asyncio.Task[None]) -> None:
        self._running.remove(task)
        self._cores.give(num_cores)

    def _take(self, most: int) -> list[_Part]:
        """The oldest part, and those that can share its batch without overtaking: none once nothing waits."""
        batch: list[_Part] = []
        num_images = 0
        while self._waiting:
            part = self._waiting[0]
            if batch and not (part.fits(batch[0]) and num_images + len(part.images) <= most):
                break
            self._waiting.popleft()
            if not part.done.cancelled():  # its client is gone
                batch.append(part)
                num_images += len(part.images)
        return batch

    async def _compute(self, batch: Sequence[_Part], num_cores: int) -> None:
        embedder, layer = batch[0].embedder, batch[0].layer
        images = [image for part in batch for image in part.images]
        started_at = time.monotonic()

        def embed() -> NDArray[np.float32]:  # the copy, too, is made on the core that computes
            return embedder.embed(np.stack(images), layer, in_lane=num_cores < self._num_lanes)

        try:
            vectors = await asyncio.get_running_loop().run_in_executor(self._threads, embed)
        except BaseException as error:  # whatever it is belongs to those who wait for it
            for part in batch:
                if not part.done.done():
                    part.done.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        compute_seconds = time.monotonic() - started_at
        self._learn(embedder, num_cores * compute_seconds / len(images))
        BATCH_IMAGES.observe(len(images))
        STAGE_SECONDS.observe(compute_seconds, "compute")
        start = 0
        for part in batch:
            stop = start + len(part.images)
            if not part.done.done():
                queue_seconds = started_at - part.entered_at
                STAGE_SECONDS.observe(queue_seconds, "queue")
                part.done.set_result(Embedded(vectors[start:stop], queue_seconds, compute_seconds, len(images)))
            start = stop

    def _learn(self, embedder: Embedder, seconds: float) -> None:
        before = self._seconds.get(embedder, seconds)
        self._seconds[embedder] = before + WEIGHT * (seconds - before)

    def close(self) -> None:
        """Let the threads end after what they compute."""
        self._threads.shutdown(wait=False, cancel_futures=True)
