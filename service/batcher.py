"""One compute thread for all models, and batches without timers: it takes what waits, one batch at a time.

Legend: M images, S image side, D size of a layer.

While a batch is computed, the next requests gather; an idle thread starts as soon as it is its turn (service/turns.py).
So a lone request never waits for company, and under load the batches grow by themselves.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.embedder import Embedder
from service.instruments import BATCH_IMAGES, STAGE_SECONDS
from service.scheduling import give_way
from service.turns import Turns

MAX_BATCH = 64


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
    """At most MAX_BATCH images of one request, (M, S, S, 3) uint8, that go into one batch together."""

    embedder: Embedder
    layer: str
    images: NDArray[np.uint8]
    done: asyncio.Future[Embedded]
    entered_at: float

    def fits(self, other: "_Part") -> bool:
        """Whether the same call can compute both."""
        return self.embedder is other.embedder and self.layer == other.layer


class Batcher:
    """Computes embeddings for the requests of one event loop."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._thread = ThreadPoolExecutor(1, "embed", initializer=give_way)
        self._waiting: deque[_Part] = deque()
        self._runner: asyncio.Task[None] | None = None

    async def embed(self, embedder: Embedder, images: NDArray[np.uint8], layer: str) -> Embedded:
        """Images (M, S, S, 3) uint8 to a layer, (M, D) float32; the caller has seen that there is room for so many."""
        parts = [
            self._enter(embedder, images[start : start + MAX_BATCH], layer)
            for start in range(0, len(images), MAX_BATCH)
        ]
        if self._runner is None:
            self._runner = asyncio.create_task(self._run())
        results = await asyncio.gather(*(part.done for part in parts))
        return Embedded(
            np.concatenate([result.vectors for result in results]),
            max(result.queue_seconds for result in results),
            max(result.compute_seconds for result in results),
            max(result.num_in_batch for result in results),
        )

    def _enter(self, embedder: Embedder, images: NDArray[np.uint8], layer: str) -> _Part:
        done = asyncio.get_running_loop().create_future()
        part = _Part(embedder, layer, images, done, time.monotonic())
        self._waiting.append(part)
        return part

    async def _run(self) -> None:
        while self._waiting:
            async with self._turns.computing(self._is_full):
                if batch := self._take():
                    await self._compute(batch)
        self._runner = None

    def _is_full(self) -> bool:
        return sum(len(part.images) for part in self._waiting) >= MAX_BATCH

    def _take(self) -> list[_Part]:
        """The oldest part, and those that can share its batch without overtaking: none once nothing waits."""
        batch: list[_Part] = []
        num_images = 0
        while self._waiting:
            part = self._waiting[0]
            if batch and not (part.fits(batch[0]) and num_images + len(part.images) <= MAX_BATCH):
                break
            self._waiting.popleft()
            if not part.done.cancelled():  # its client is gone
                batch.append(part)
                num_images += len(part.images)
        return batch

    async def _compute(self, batch: Sequence[_Part]) -> None:
        embedder, layer = batch[0].embedder, batch[0].layer
        images = batch[0].images if len(batch) == 1 else np.concatenate([part.images for part in batch])
        started_at = time.monotonic()
        try:
            vectors = await asyncio.get_running_loop().run_in_executor(self._thread, embedder.embed, images, layer)
        except BaseException as error:  # whatever it is belongs to those who wait for it
            for part in batch:
                if not part.done.done():
                    part.done.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        compute_seconds = time.monotonic() - started_at
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

    def close(self) -> None:
        """Let the thread end after what it computes."""
        self._thread.shutdown(wait=False, cancel_futures=True)
