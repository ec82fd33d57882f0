"""Batches of embeddings."""

import asyncio
import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service import batcher as module
from service.batcher import MAX_BATCH, Batcher, Embedded
from service.cores import Cores
from tests.waiting import wait_until


class Recorder:
    """In place of a model: notes the size of each batch, and waits for `gate` before it answers with image means."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.in_lanes: list[bool] = []
        self.gate = threading.Event()
        self.error: Exception | None = None

    def embed(self, images: NDArray[np.uint8], layer: str, *, in_lane: bool) -> NDArray[np.float32]:
        self.sizes.append(len(images))
        self.in_lanes.append(in_lane)
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
        batcher, model = Batcher(Cores(1, 1), 1), Recorder()
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
        batcher, model = Batcher(Cores(1, 1), 1), Recorder()
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
        batcher, model = Batcher(Cores(1, 1), 1), Recorder()
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
        batcher, model = Batcher(Cores(1, 1), 1), Recorder()
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


async def wait_for(model: Recorder, num_batches: int) -> None:
    """Until so many have begun."""
    await asyncio.to_thread(wait_until, lambda: len(model.sizes) >= num_batches, timeout_seconds=10)


@pytest.fixture
def costly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every image costs enough for lanes, and never too much for its share."""
    monkeypatch.setattr(module, "SMALL_SECONDS", 0)
    monkeypatch.setattr(module, "LANE_SECONDS", 10_000)


@pytest.mark.usefixtures("costly")
def test_what_keeps_all_cores_busy_is_computed_in_lanes() -> None:
    """A lone image is computed on all cores, and nothing beside it; then what waits is shared out among the lanes."""

    async def use() -> Recorder:
        cores = Cores(3, 1)
        batcher, model = Batcher(cores, 3), Recorder()
        tasks = [asyncio.create_task(embed(batcher, model, images(0)))]
        await wait_for(model, 1)
        assert cores.num_free == 0
        tasks += [asyncio.create_task(embed(batcher, model, images(i))) for i in range(1, 9)]
        await settle()
        assert (model.sizes, model.in_lanes) == ([1], [False])
        model.gate.set()
        results = await asyncio.gather(*tasks)
        assert [result.vectors.item() for result in results] == list(range(9))
        await settle()
        assert cores.num_free == 3
        batcher.close()
        return model

    model = asyncio.run(use())
    assert model.in_lanes[1:] == [True] * 3
    assert sorted(model.sizes[1:]) == [2, 3, 3]


def test_a_lane_takes_what_it_computes_in_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what images have cost before: of those that cost more than the time, one."""
    monkeypatch.setattr(module, "SMALL_SECONDS", 0)
    monkeypatch.setattr(module, "LANE_SECONDS", 1e-9)

    async def use() -> Recorder:
        batcher, model = Batcher(Cores(2, 1), 2), Recorder()
        model.gate.set()
        await embed(batcher, model, images(0))
        await asyncio.gather(*(embed(batcher, model, images(i)) for i in range(6)))
        batcher.close()
        return model

    assert asyncio.run(use()).sizes == [1] * 7


def test_small_images_wait_for_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until what is being decoded has come, and the batch before is done: then all are computed on all cores."""
    monkeypatch.setattr(module, "SMALL_SECONDS", 10_000)

    async def use() -> Recorder:
        cores = Cores(2, 2)
        batcher, model = Batcher(cores, 2), Recorder()
        model.gate.set()
        async with cores.decoding():
            tasks = [asyncio.create_task(embed(batcher, model, images(i))) for i in range(3)]
            await settle()
            assert model.sizes == []
        await embed(batcher, model, images(3))
        await asyncio.gather(*tasks)
        batcher.close()
        return model

    model = asyncio.run(use())
    assert (model.sizes, model.in_lanes) == ([4], [False])


@pytest.mark.usefixtures("costly")
def test_a_lane_is_taken_while_others_compute() -> None:
    """One image that comes beside a batch has a core of its own at once, and waits for none that is taken."""

    async def use() -> Recorder:
        cores = Cores(2, 1)
        batcher, model = Batcher(cores, 2), Recorder()
        cores.take(1)  # an image is being decoded
        tasks = [asyncio.create_task(embed(batcher, model, images(1)))]
        await wait_for(model, 1)
        tasks += [asyncio.create_task(embed(batcher, model, images(2)))]
        await settle()
        assert model.sizes == [1]
        cores.give(1)
        await wait_for(model, 2)
        model.gate.set()
        await asyncio.gather(*tasks)
        batcher.close()
        return model

    assert asyncio.run(use()).in_lanes == [True, True]


@pytest.mark.usefixtures("costly")
@pytest.mark.parametrize(("num_lanes", "most"), [(1, 64), (2, 32), (32, 2), (128, 1)])
def test_all_lanes_together_hold_a_batch_of_usual_size(num_lanes: int, most: int) -> None:
    """Memory for what is computed doesn't grow with the cores."""

    async def use() -> Recorder:
        batcher, model = Batcher(Cores(num_lanes, 1), num_lanes), Recorder()
        model.gate.set()
        await embed(batcher, model, np.zeros((200, 2, 2, 3), np.uint8))
        batcher.close()
        return model

    model = asyncio.run(use())
    assert (max(model.sizes), sum(model.sizes)) == (most, 200)


async def embed(batcher: Batcher, model: Any, pixels: NDArray[np.uint8], layer: str = "h") -> Embedded:
    return await batcher.embed(model, pixels, layer)
