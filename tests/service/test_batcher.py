"""Batches of embeddings."""

import asyncio
import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.batcher import MAX_BATCH, Batcher, Embedded
from service.turns import Turns


class Recorder:
    """In place of a model: notes the size of each batch, and waits for `gate` before it answers with image means."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.gate = threading.Event()
        self.error: Exception | None = None

    def embed(self, images: NDArray[np.uint8], layer: str) -> NDArray[np.float32]:
        self.sizes.append(len(images))
        self.gate.wait(10)
        if self.error:
            raise self.error
        return images.reshape(len(images), -1).mean(axis=1, dtype=np.float32)[:, None]


def images(*values: int) -> NDArray[np.uint8]:
    """One-coloured images, (M, 2, 2, 3)."""
    return np.stack([np.full((2, 2, 3), value, np.uint8) for value in values])


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_what_waits_becomes_one_batch() -> None:
    """The first request starts alone at once; those that come meanwhile share the next batch and get their own rows."""

    async def use() -> tuple[list[int], list[list[float]]]:
        batcher, model = Batcher(Turns(1, is_on=lambda: False)), Recorder()
        tasks = [asyncio.create_task(embed(batcher, model, images(0)))]
        await settle()
        tasks += [asyncio.create_task(embed(batcher, model, images(i, i + 100))) for i in range(1, 6)]
        await settle()
        model.gate.set()
        results = await asyncio.gather(*tasks)
        batcher.close()
        return model.sizes, [result.vectors[:, 0].tolist() for result in results]

    sizes, values = asyncio.run(use())
    assert sizes == [1, 10]
    assert values == [[0], [1, 101], [2, 102], [3, 103], [4, 104], [5, 105]]


def test_batches_are_limited_and_of_one_layer() -> None:
    """A large request is split, one that fits no more comes next, and two layers never share a batch."""

    async def use() -> tuple[list[int], Embedded]:
        batcher, model = Batcher(Turns(1, is_on=lambda: False)), Recorder()
        model.gate.set()
        large = asyncio.create_task(embed(batcher, model, images(*[i % 250 for i in range(MAX_BATCH + 10)])))
        others = [asyncio.create_task(embed(batcher, model, images(1), layer)) for layer in ("h", "z", "z", "h")]
        result, *_ = await asyncio.gather(large, *others)
        batcher.close()
        return model.sizes, result

    sizes, result = asyncio.run(use())
    assert sizes == [MAX_BATCH, 11, 2, 1]
    assert result.vectors[:, 0].tolist() == [i % 250 for i in range(MAX_BATCH + 10)]


def test_a_failed_batch_fails_its_requests_only() -> None:
    """The error reaches those in the batch, and the next request is computed."""

    async def use() -> list[float]:
        batcher, model = Batcher(Turns(1, is_on=lambda: False)), Recorder()
        model.gate.set()
        model.error = RuntimeError("out of memory")
        with pytest.raises(RuntimeError, match="out of memory"):
            await embed(batcher, model, images(1))
        model.error = None
        values: list[float] = (await embed(batcher, model, images(7))).vectors[0].tolist()
        batcher.close()
        return values

    assert asyncio.run(use()) == [7]


def test_an_abandoned_request_is_not_computed() -> None:
    """A request that was cancelled while it waited is left out of the batch."""

    async def use() -> list[int]:
        batcher, model = Batcher(Turns(1, is_on=lambda: False)), Recorder()
        running = asyncio.create_task(embed(batcher, model, images(0)))
        await settle()
        abandoned, kept = (asyncio.create_task(embed(batcher, model, images(1, 2))) for _ in range(2))
        await settle()
        abandoned.cancel()
        await settle()
        model.gate.set()
        await asyncio.gather(running, kept)
        batcher.close()
        return model.sizes

    assert asyncio.run(use()) == [1, 2]


async def embed(batcher: Batcher, model: Any, pixels: NDArray[np.uint8], layer: str = "h") -> Embedded:
    return await batcher.embed(model, pixels, layer)
