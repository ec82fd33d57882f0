"""The pool of decoding processes."""

import asyncio
import io
import os
import signal
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import psutil
import pytest
import uvloop
from PIL import Image

from models.config import Preprocessing
from models.preprocess import ImageLimits, to_input
from service import decoding
from service.core.errors import Busy, ServiceError, TooLarge, Unavailable, Undecodable
from service.core.settings import Settings
from service.decoder import KEEP_MEMORY
from service.decoding import Decoded, DecodingPool
from service.shared_memory import SHARED_BYTES
from tests.models.image_files import encode, noise
from tests.trainer.images import slow_jpeg
from tests.waiting import running_children
from trainer.decoding import DecodingPool as StoringPool
from trainer.decoding import Stored

SMALL = Preprocessing(image_size=16)
LIMITS = ImageLimits(max_bytes=10**7, max_pixels=10**7, max_side=10**4)

Result = TypeVar("Result")


def with_pool(
    use: Callable[[DecodingPool], Awaitable[Result]],
    run_in_loop: Callable[[Coroutine[Any, Any, Result]], Result] = asyncio.run,
    **settings: object,
) -> Result:
    """What `use` returns, given a pool in an event loop of its own."""

    async def run() -> Result:
        pool = DecodingPool(Settings(data_dir=Path("unused"), **settings))
        try:
            return await use(pool)
        finally:
            pool.close()

    return run_in_loop(run())


@pytest.fixture(autouse=True)
def others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another application of the same test session may have decoding processes of its own."""
    monkeypatch.setattr("tests.service.test_decoding.OTHERS", {child.pid for child in decoders()})


OTHERS: set[int] = set()


def decoders() -> list[psutil.Process]:
    return running_children("service.decoder_process")


def children() -> list[psutil.Process]:
    """The decoding processes of the pool under test."""
    return [child for child in decoders() if child.pid not in OTHERS]


def test_decoders_give_way() -> None:
    """They are scheduled as processes that compute, which the event loop needn't wait for."""

    async def use(pool: DecodingPool) -> list[int]:
        await pool.start()
        return [os.sched_getscheduler(child.pid) for child in children()]

    assert with_pool(use, num_decoders=2) == [os.SCHED_BATCH] * 2


def test_decoders_keep_their_memory() -> None:
    """Their environment says how to glibc, which reads it when they start."""

    async def use(pool: DecodingPool) -> dict[str, str]:
        await pool.start()
        (child,) = children()
        return child.environ()

    environment = with_pool(use, num_decoders=1)
    assert {name: environment.get(name) for name in KEEP_MEMORY} == KEEP_MEMORY


def test_inputs_are_those_of_training_and_indexing() -> None:
    """Bit for bit what those store and make of it, of a JPEG that is decoded reduced too; sizes are the file's."""
    sizes = {"png": (21, 34), "jpeg": (600, 700), "webp": (21, 34)}
    contents = {format_: encode(noise(*size), format_) for format_, size in sizes.items()}
    images = with_pool(lambda pool: pool.decode_all(list(contents.values()), SMALL))
    with StoringPool(LIMITS, SMALL.storage_side, timeout_seconds=60) as pool:
        stored = dict(pool.decode(contents.items()))
    for (format_, (height, width)), image in zip(sizes.items(), images, strict=True):
        assert isinstance(image, Decoded)
        assert (image.format, image.width, image.height) == (format_, width, height)
        twin = stored[format_]
        assert isinstance(twin, Stored)
        assert (twin.width, twin.height) == (width, height)
        assert image.input is not None
        np.testing.assert_array_equal(image.input, to_input(twin.pixels, SMALL))


def test_a_large_file_is_not_copied_to_be_sent() -> None:
    """As many as there are decoders are on their way at once; it arrives bit for bit."""
    content = encode(noise(1001, 1000), "png")
    preprocessing = Preprocessing(image_size=224)

    async def use(pool: DecodingPool) -> tuple[Decoded, int]:
        await pool.start()
        tracemalloc.start()
        image = await pool.decode(content, preprocessing)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return image, peak

    image, peak = with_pool(use, uvloop.run)  # the loop of the API; asyncio's own does copy
    assert peak < len(content) / 2 > SHARED_BYTES
    with StoringPool(LIMITS, preprocessing.storage_side, timeout_seconds=60) as pool:
        ((_, twin),) = pool.decode([("png", content)])
    assert isinstance(twin, Stored)
    np.testing.assert_array_equal(image.input, to_input(twin.pixels, preprocessing))


@pytest.mark.parametrize("num_bytes", [SHARED_BYTES - 1, SHARED_BYTES, SHARED_BYTES + 1])
def test_files_that_just_fit_into_the_shared_memory_arrive_like_others(num_bytes: int) -> None:
    """What stands behind an image is no part of it, so that one can be of any length."""
    content = encode(noise(16, 16), "png")
    image = with_pool(lambda pool: pool.decode(content + bytes(num_bytes - len(content)), SMALL))
    np.testing.assert_array_equal(image.input, noise(16, 16))


def test_without_a_preprocessing_an_image_is_only_checked() -> None:
    """Where no model serves, the properties are told and no pixels are sent."""
    assert with_pool(lambda pool: pool.decode(encode(noise(3, 5), "png"), None)) == Decoded("png", 5, 3, None)


def test_each_of_many_has_its_own_outcome() -> None:
    """Refused files among good ones have their codes; the others are decoded, in order."""
    contents = [encode(noise(5, 4 + i, seed=i), "png") for i in range(40)]
    contents[3] = b"GIF89a"
    contents[7] = contents[7][:-20]
    contents[9] = encode(noise(30, 30), "png")
    outcomes = with_pool(lambda pool: pool.decode_all(contents, SMALL), max_image_pixels=800)
    errors = {i: (type(o), o.code) for i, o in enumerate(outcomes) if isinstance(o, ServiceError)}
    assert errors == {
        3: (Undecodable, "unsupported_format"),
        7: (Undecodable, "undecodable"),
        9: (TooLarge, "too_large"),
    }
    assert [o.width for o in outcomes if isinstance(o, Decoded)] == [4 + i for i in range(40) if i not in errors]


def test_a_slow_image_is_killed_and_the_pool_goes_on() -> None:
    """A scan bomb is refused soon after its time limit, its process is gone, and the next image is decoded."""
    bomb = slow_jpeg()

    async def use(pool: DecodingPool) -> float:
        await pool.decode(encode(noise(4, 4), "png"), SMALL)
        (before,) = children()
        started_at = time.monotonic()
        with pytest.raises(Undecodable, match=r"more than 0\.5 seconds") as caught:
            await pool.decode(bomb, SMALL)
        elapsed = time.monotonic() - started_at
        assert caught.value.code == "decode_timeout"
        assert not before.is_running()
        await pool.decode(encode(noise(4, 4), "png"), SMALL)
        return elapsed

    assert with_pool(use, num_decoders=1, decode_timeout_seconds=0.5) < 1.5


def test_a_time_limit_ends_with_its_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next image of the same process has all of its own time."""
    limits: list[asyncio.TimerHandle] = []

    async def use(pool: DecodingPool) -> None:
        await pool.start()
        loop = asyncio.get_running_loop()
        call_later = loop.call_later

        def note(*arguments: Any) -> asyncio.TimerHandle:
            limits.append(call_later(*arguments))
            return limits[-1]

        monkeypatch.setattr(loop, "call_later", note)
        await pool.decode(encode(noise(4, 4), "png"), SMALL)

    with_pool(use, num_decoders=1)
    assert [limit.cancelled() for limit in limits] == [True]


def test_a_crash_is_an_error_of_its_image() -> None:
    """A process that dies while it decodes refuses that image only."""

    async def use(pool: DecodingPool) -> str:
        await pool.decode(encode(noise(4, 4), "png"), SMALL)
        (child,) = children()
        task = asyncio.ensure_future(pool.decode(slow_jpeg(), SMALL))
        before = child.cpu_times().user
        while child.cpu_times().user < before + 0.1:  # noqa: ASYNC110  # another process has no event to wait for
            await asyncio.sleep(0.01)
        os.kill(child.pid, signal.SIGSEGV)
        with pytest.raises(Undecodable) as caught:
            await task
        await pool.decode(encode(noise(4, 4), "png"), SMALL)
        return caught.value.detail

    assert with_pool(use, num_decoders=1, decode_timeout_seconds=60) == "its decoder crashed"


def test_a_process_that_died_unseen_costs_no_image() -> None:
    """One that the kernel ended while it had nothing to do is replaced before it is asked."""

    async def use(pool: DecodingPool) -> int:
        await pool.decode(encode(noise(4, 4), "png"), SMALL)
        (child,) = children()
        child.kill()
        await asyncio.sleep(0.2)
        return (await pool.decode(encode(noise(4, 7), "png"), SMALL)).width

    assert with_pool(use, num_decoders=1) == 7


def test_a_process_that_does_not_start_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The image that wanted it is told that the service can't; the next one has it started again."""

    async def use(pool: DecodingPool) -> int:
        [decoder] = pool._decoders
        with monkeypatch.context() as patch:
            patch.setattr(decoder, "_command", ["false"])
            with pytest.raises(Unavailable, match="no decoding process starts"):
                await pool.decode(encode(noise(4, 7), "png"), SMALL)
        async with asyncio.timeout(30):
            return (await pool.decode(encode(noise(4, 7), "png"), SMALL)).width

    assert with_pool(use, num_decoders=1) == 7


def test_a_file_is_in_the_memory_before_its_process_hears_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would now and then decode the one before."""
    seen = []

    async def use(pool: DecodingPool) -> None:
        await pool.start()
        (decoder,) = pool._decoders
        process = decoder._process
        assert process is not None
        write = process.transport.write

        def look(data: bytes) -> None:
            seen.append(process.memory[: len(content)])
            write(data)

        monkeypatch.setattr(process, "transport", SimpleNamespace(write=look, abort=process.transport.abort))
        await pool.decode(content, SMALL)

    content = encode(noise(4, 4), "png")
    with_pool(use, num_decoders=1)
    assert seen == [content]


def test_memory_is_limited() -> None:
    """An image whose pixels don't fit into the process's memory limit is too large, and the process lives on."""
    buffer = io.BytesIO()
    Image.new("LA", (11_000, 11_000)).save(buffer, "PNG", compress_level=1)

    async def use(pool: DecodingPool) -> str:
        await pool.decode(encode(noise(4, 4), "png"), SMALL)
        (before,) = children()
        with pytest.raises(TooLarge) as caught:
            await pool.decode(buffer.getvalue(), SMALL)
        await pool.decode(encode(noise(4, 4), "png"), SMALL)
        assert children() == [before]
        return caught.value.detail

    limits = {"max_image_pixels": 10**9, "max_image_side": 10**5, "decode_timeout_seconds": 60}
    detail = with_pool(use, num_decoders=1, **limits)
    assert "bytes of memory" in detail


def test_an_abandoned_request_does_not_answer_the_next() -> None:
    """After a cancelled request the next image gets its own pixels, from the same process: going away costs nobody."""

    async def use(pool: DecodingPool) -> int:
        await pool.decode(encode(noise(4, 4), "png"), SMALL)
        before = children()
        task = asyncio.ensure_future(pool.decode(encode(noise(1000, 1000), "png"), SMALL))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        width = (await pool.decode(encode(noise(7, 7), "png"), SMALL)).width
        assert children() == before
        return width

    assert with_pool(use, num_decoders=1) == 7


def test_more_than_can_wait_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the queue's length an image is refused as busy, with a time to come back."""
    monkeypatch.setattr(decoding, "MAX_WAITING", 3)
    content = encode(noise(4, 4), "png")

    async def use(pool: DecodingPool) -> None:
        results = await asyncio.gather(*(pool.render(content, None) for _ in range(10)), return_exceptions=True)
        refused = [result for result in results if isinstance(result, Busy)]
        assert len(refused) == 10 - 1 - 3  # one is decoded, three wait
        assert {error.retry_after_seconds for error in refused} == {1}

    with_pool(use, num_decoders=1)


def test_rendering_keeps_pixels_only() -> None:
    """A rendered JPEG is upright, small enough, and without the EXIF and the comment of its source."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    exif[0x010E] = "private"
    source = encode(noise(40, 60), "jpeg", exif=exif, comment=b"hidden")
    format_, content = with_pool(lambda pool: pool.render(source, 30))
    assert format_ == "jpeg"
    rendered = Image.open(io.BytesIO(content))
    assert rendered.size == (20, 30)
    assert not rendered.getexif()
    assert b"hidden" not in content


@pytest.mark.parametrize(("height", "width"), [(9, 7), (900, 700)])
def test_a_png_is_rendered_exactly(height: int, width: int) -> None:
    """Without a size, a PNG's pixels are unchanged, also where its file is larger than the shared memory."""
    pixels = noise(height, width)
    _, content = with_pool(lambda pool: pool.render(encode(pixels, "png"), None))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), pixels)


def test_no_process_is_left_when_the_pool_is_closed() -> None:
    """Closing kills and reaps the processes."""
    with_pool(lambda pool: pool.decode_all([encode(noise(4, 4), "png")] * 4, SMALL))
    assert children() == []
