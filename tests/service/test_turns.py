"""Decoding and computing in turns."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from service import turns as module
from service.turns import Turns, save_time


class Scene:
    """Turns of two decoders, and what has been done in them."""

    def __init__(self, *, is_on: bool = True) -> None:
        self.is_on = is_on
        self.turns = Turns(2, is_on=lambda: self.is_on)
        self.done: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}
        self.is_enough = False

    def decode(self, name: str) -> asyncio.Task[None]:
        """Decode until `ends[name]`, then enter the next batch, as a request does."""

        async def run() -> None:
            async with self.turns.decoding():
                self.done.append(f"decode {name}")
                await self.ends.setdefault(name, asyncio.Event()).wait()
            self.done.append(f"enter {name}")

        return asyncio.create_task(run())

    def compute(self, name: str) -> asyncio.Task[None]:
        """Compute until `ends[name]`."""

        async def run() -> None:
            async with self.turns.computing(lambda: self.is_enough):
                self.done.append(f"compute {name}")
                await self.ends.setdefault(name, asyncio.Event()).wait()

        return asyncio.create_task(run())

    async def end(self, *names: str) -> None:
        """Let these end, and everything that can go on do so."""
        for name in names:
            self.ends.setdefault(name, asyncio.Event()).set()
        for _ in range(10):
            await asyncio.sleep(0)


def played(play: Callable[[Scene], Awaitable[None]], *, is_on: bool = True) -> list[str]:
    """What was done, in order."""

    async def run() -> list[str]:
        scene = Scene(is_on=is_on)
        await play(scene)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return scene.done

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch waits for minutes, unless a test says otherwise: a slow machine changes nothing."""
    monkeypatch.setattr(module, "DECODING_SECONDS", 300)


def test_nothing_is_decoded_while_a_batch_is_computed() -> None:
    """It is once that has ended; and what was being decoded goes on."""

    async def play(scene: Scene) -> None:
        scene.is_enough = True
        scene.decode("a")
        await scene.end()
        scene.compute("first")
        await scene.end()
        scene.decode("b")
        await scene.end("a")
        await scene.end("first")

    assert played(play) == ["decode a", "compute first", "enter a", "decode b"]


def test_a_batch_waits_for_what_is_being_decoded() -> None:
    """Also for what came while it waited; all of it has entered before the batch is taken."""

    async def play(scene: Scene) -> None:
        scene.decode("a")
        scene.compute("both")
        await scene.end()
        scene.decode("b")
        await scene.end("a")
        await scene.end("b")

    assert played(play) == ["decode a", "decode b", "enter a", "enter b", "compute both"]


def test_a_batch_that_is_full_does_not_wait() -> None:
    """The decoders go on beside it."""

    async def play(scene: Scene) -> None:
        scene.decode("a")
        scene.decode("b")
        scene.compute("full")
        await scene.end()
        scene.is_enough = True
        await scene.end("a")
        await scene.end("b")

    assert played(play) == ["decode a", "decode b", "enter a", "compute full", "enter b"]


def test_an_image_that_takes_long_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is computed without it when it has had its time."""
    monkeypatch.setattr(module, "DECODING_SECONDS", 0.01)

    async def play(scene: Scene) -> None:
        scene.decode("for ever")
        await scene.end()
        await scene.end("batch")
        await asyncio.wait_for(scene.compute("batch"), 10)

    assert played(play) == ["decode for ever", "compute batch"]


def test_no_more_are_decoded_than_there_are_decoders() -> None:
    """The third waits for a slot, and the batch for the third."""

    async def play(scene: Scene) -> None:
        for name in "abc":
            scene.decode(name)
        scene.compute("all")
        await scene.end()
        await scene.end("a")
        await scene.end("b", "c")

    assert played(play) == ["decode a", "decode b", "enter a", "decode c", "enter b", "enter c", "compute all"]


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_client_that_goes_is_not_waited_for(name: str) -> None:
    """Neither while its image is decoded nor while it waits for a computation to end."""

    async def play(scene: Scene) -> None:
        scene.is_enough = True
        tasks = {"a": scene.decode("a")}
        await scene.end()
        scene.compute("first")
        await scene.end()
        tasks["b"] = scene.decode("b")
        await scene.end()
        tasks[name].cancel()
        scene.is_enough = False
        await scene.end("first", *({"a", "b"} - {name}))
        scene.compute("second")
        await scene.end()
        with suppress(asyncio.CancelledError):
            await tasks[name]

    assert played(play)[-1] == "compute second"


def test_a_client_that_goes_as_its_turn_comes_is_no_failure() -> None:
    """It was told to stop before it could begin; the next one has its slot."""

    async def play(scene: Scene) -> None:
        tasks = [scene.decode(name) for name in "abcd"]
        await scene.end()
        tasks[2].cancel()
        await scene.end("a")  # at the same moment: it is still among those that wait
        await scene.end("b", "d")
        scene.compute("three")
        await scene.end()

    expected = ["decode a", "decode b", "enter a", "decode d", "enter b", "enter d", "compute three"]
    assert played(play) == expected


def test_switched_off_those_who_wait_go_with_the_next_that_comes() -> None:
    """Though a batch that began before is still computed."""

    async def play(scene: Scene) -> None:
        scene.is_enough = True
        scene.compute("first")
        await scene.end()
        for name in "abc":
            scene.decode(name)
        await scene.end()
        scene.is_on = False
        scene.decode("d")
        await scene.end()

    first, *decoded = played(play)
    assert (first, sorted(decoded)) == ("compute first", [f"decode {name}" for name in "abcd"])


def test_switched_off_everybody_goes_when_they_like() -> None:
    """More than there are decoders, too: their pool has a queue of its own."""

    async def play(scene: Scene) -> None:
        scene.compute("at once")
        await scene.end()
        for name in "abc":
            scene.decode(name)
        await scene.end()
        scene.compute("another")
        await scene.end()

    assert played(play, is_on=False) == ["compute at once", "decode a", "decode b", "decode c", "compute another"]


def test_switched_off_while_a_batch_waits_it_begins() -> None:
    """With the next image that is there; and while it is computed, others are decoded."""

    async def play(scene: Scene) -> None:
        for name in "abc":
            scene.decode(name)
        scene.compute("what there is")
        await scene.end()
        scene.is_on = False
        await scene.end("a")
        scene.decode("d")
        await scene.end("b")

    begun = ["decode a", "decode b", "enter a", "decode c", "compute what there is"]
    assert played(play) == [*begun, "decode d", "enter b"]


@pytest.mark.parametrize(
    ("num_cores", "gpu", "expected"), [(2, False, True), (4, False, True), (5, False, False), (2, True, False)]
)
def test_they_are_for_few_cores_that_compute(
    monkeypatch: pytest.MonkeyPatch, *, num_cores: int, gpu: bool, expected: bool
) -> None:
    """With many cores some are left for decoding, and a GPU takes none."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(num_cores)))
    monkeypatch.setattr(module, "has_gpu", lambda: gpu)
    assert save_time() is expected
