"""Who decodes and who computes on which cores."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from service import cores as module
from service.core.settings import Settings
from service.cores import Cores, num_cores, num_lanes
from tests.waiting import wait_until


class Scene:
    """Two cores and as many decoders, batches that wait for a core, and what has been done."""

    def __init__(self) -> None:
        self.cores = Cores(2, 2)
        self.cores.on_free = self._compute
        self.done: list[str] = []
        self.batches: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}

    def decode(self, name: str) -> asyncio.Task[None]:
        """Decode until `ends[name]`."""

        async def run() -> None:
            async with self.cores.decoding():
                self.done.append(f"decode {name}")
                await self.ends.setdefault(name, asyncio.Event()).wait()

        return asyncio.create_task(run())

    def _compute(self) -> None:
        if self.batches:
            self.done.append(f"compute {self.batches.pop(0)}")
            self.cores.take(1)

    async def settle(self) -> None:
        """Let everything that can go on do so."""
        for _ in range(10):
            await asyncio.sleep(0)

    async def end(self, *names: str) -> None:
        """Let these images be decoded."""
        for name in names:
            self.ends.setdefault(name, asyncio.Event()).set()
        await self.settle()


def played(play: Callable[[Scene], Awaitable[None]]) -> list[str]:
    """What was done, in order."""

    async def run() -> list[str]:
        scene = Scene()
        await play(scene)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return scene.done

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image holds its core for minutes, unless a test says otherwise: a slow machine changes nothing."""
    monkeypatch.setattr(module, "DECODING_SECONDS", 300)


def test_decoding_goes_first() -> None:
    """Images have every core that a batch gives back, before the next batch; a batch has what they leave."""

    async def play(scene: Scene) -> None:
        scene.cores.take(2)
        scene.batches = ["a", "b"]
        for name in "xyz":
            scene.decode(name)
        await scene.settle()
        scene.cores.give(1)
        scene.cores.give(1)
        await scene.settle()
        await scene.end("x")
        await scene.end("y")
        await scene.end("z")

    assert played(play) == ["decode x", "decode y", "decode z", "compute a", "compute b"]


def test_no_more_are_decoded_than_there_are_decoders() -> None:
    """Cores that are left are for batches."""

    async def play(scene: Scene) -> None:
        scene.cores = Cores(3, 1)
        scene.cores.on_free = scene._compute
        scene.decode("x")
        scene.batches = ["a"]
        scene.decode("y")
        await scene.settle()
        await scene.end("x")

    assert played(play) == ["decode x", "compute a", "decode y"]


def test_an_image_that_takes_long_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives its core back when it has had its time, and not again when it is done; its decoder is still busy."""
    monkeypatch.setattr(module, "DECODING_SECONDS", 0.01)

    async def play(scene: Scene) -> None:
        scene.batches = ["a"]
        scene.cores.take(1)
        task = scene.decode("for ever")
        await asyncio.to_thread(wait_until, lambda: not scene.batches, timeout_seconds=10)
        assert scene.cores.num_free == 0
        await scene.end("for ever")
        await task
        assert scene.cores.num_free == 0

    assert played(play) == ["decode for ever", "compute a"]


@pytest.mark.parametrize("name", ["x", "y"])
def test_a_client_that_goes_leaves_its_core(name: str) -> None:
    """Whether its image is being decoded or waits to be."""

    async def play(scene: Scene) -> None:
        scene.cores.take(1)
        tasks = {key: scene.decode(key) for key in "xy"}
        await scene.settle()
        tasks[name].cancel()
        with suppress(asyncio.CancelledError):
            await tasks[name]
        await scene.end(*({"x", "y"} - {name}))
        assert scene.cores.num_free == 1

    played(play)


def test_a_client_that_goes_as_its_turn_comes_leaves_its_core() -> None:
    """It was told to stop before it could begin; the next one has its core and its decoder."""

    async def play(scene: Scene) -> None:
        scene.cores.take(2)
        task = scene.decode("x")
        await scene.settle()
        scene.cores.give(1)
        task.cancel()
        await scene.settle()
        assert scene.cores.num_free == 1
        scene.cores.give(1)
        for name in "yz":
            scene.decode(name)
        await scene.settle()

    assert played(play) == ["decode y", "decode z"]


@pytest.mark.parametrize(
    ("gpu", "threads", "expected"), [(False, 0, (4, 4)), (False, 3, (4, 3)), (False, 9, (4, 4)), (True, 0, (3, 1))]
)
def test_they_are_those_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, gpu: bool, threads: int, expected: tuple[int, int]
) -> None:
    """Batches are computed on no more than were asked for; a GPU computes one at a time and takes none of them."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(4)))
    monkeypatch.setattr(module, "has_gpu", lambda: gpu)
    settings = Settings(data_dir=tmp_path, num_ort_threads=threads, num_decoders=2)
    assert (num_cores(settings), num_lanes(settings)) == expected
