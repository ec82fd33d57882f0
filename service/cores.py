"""Who gets the machine's cores: images that are to be decoded, and batches that are to be computed.

More of both than there are cores push one another off them and out of the caches. So each has a core for as long as it
works, and a batch that is computed on all cores has them all. Decoding goes first: it is short, and the next batch is
larger for it. (docs/decisions/0025)
"""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from models.embedder import has_gpu
from service.core.settings import Settings

DECODING_SECONDS = 0.1  # that an image may hold a core: a hostile one decodes for as long as its time limit


def num_cores(settings: Settings) -> int:
    """That decoding and computing share: the machine's, or, where a GPU computes, one a decoder and one for it."""
    return settings.num_decoders + 1 if has_gpu() else len(os.sched_getaffinity(0))


def num_lanes(settings: Settings) -> int:
    """How many batches may be computed side by side; one that is alone has as many cores."""
    if has_gpu():
        return 1
    num_cores = len(os.sched_getaffinity(0))
    return min(settings.num_ort_threads or num_cores, num_cores)


class Cores:
    """The cores of one event loop's work. `on_free` is called when some are free and nothing waits to be decoded."""

    def __init__(self, num_cores: int, num_decoders: int) -> None:
        self.num_free = num_cores
        self.on_free: Callable[[], None] = lambda: None
        self._num_decoders_free = num_decoders
        self._waiting: deque[asyncio.Future[None]] = deque()  # who would decode

    @asynccontextmanager
    async def decoding(self) -> AsyncIterator[None]:
        """Decode in the block, on a core."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.append(turn)
        self._hand_out()
        core = _Core(self)
        try:
            await turn
            late = loop.call_later(DECODING_SECONDS, core.leave)
            try:
                yield
            finally:
                late.cancel()
        finally:
            if not turn.cancelled():  # else its client went before
                self._num_decoders_free += 1
                core.leave()
                self._hand_out()  # also where the core was left before

    def take(self, num_cores: int) -> None:
        """Take so many of the free cores for a batch."""
        self.num_free -= num_cores

    def give(self, num_cores: int) -> None:
        """Give back what a batch took."""
        self.num_free += num_cores
        self._hand_out()

    def _hand_out(self) -> None:
        while self._waiting and self.num_free and self._num_decoders_free:
            turn = self._waiting.popleft()
            if not turn.cancelled():
                turn.set_result(None)
                self.num_free -= 1
                self._num_decoders_free -= 1
        if self.num_free:  # soon: whose image was just decoded enters the next batch first
            asyncio.get_running_loop().call_soon(self.on_free)


class _Core:
    """That an image is decoded on."""

    def __init__(self, cores: Cores) -> None:
        self._cores = cores
        self._is_held = True

    def leave(self) -> None:
        """Give it back, if that wasn't done before."""
        if self._is_held:
            self._is_held = False
            self._cores.give(1)
