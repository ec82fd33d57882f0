"""Decoding and computing take turns on a machine of few cores.

ONNX Runtime cuts a batch into as many pieces as there are cores and waits for the last one: a core that decodes
meanwhile holds up the others. Measured on two cores, 16 clients, photographs for ResNet-18 in float32: side by side an
image costs 8% more processor time than decoding and computing alone do, in turns 3%, and is there sooner.
(docs/decisions/0025)
"""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from models.embedder import has_gpu

MAX_CORES = 4  # with more of them, some are left for decoding
DECODING_SECONDS = 0.1  # that a batch waits at most: somebody's image may take seconds to decode


class Turns:
    """Whose turn it is, for one event loop. While it is off, everybody goes when they like."""

    def __init__(self, num_decoders: int, *, is_on: Callable[[], bool]) -> None:
        self._num_decoders = num_decoders
        self._is_on = is_on
        self._waiting: deque[asyncio.Future[None]] = deque()  # whose turn to decode will come
        self._num_decoding = 0
        self._is_computing = False
        self._was_decoded = asyncio.Event()

    @asynccontextmanager
    async def decoding(self) -> AsyncIterator[None]:
        """Decode in the block, once nothing is computed; what its task gives to the batcher then is in that batch."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._begin()
        try:
            await turn
            yield
        finally:
            if turn.cancelled():  # its client has gone
                with suppress(ValueError):
                    self._waiting.remove(turn)
            else:
                self._num_decoding -= 1
            self._begin()
            self._was_decoded.set()

    def _begin(self) -> None:
        """Let those decode whose turn it is: no more than there are decoders, so that others can still be held back."""
        while self._waiting and (not self._is_on() or self._has_room()):
            turn = self._waiting.popleft()
            if not turn.cancelled():
                turn.set_result(None)
                self._num_decoding += 1

    def _has_room(self) -> bool:
        return not self._is_computing and self._num_decoding < self._num_decoders

    @asynccontextmanager
    async def computing(self, is_enough: Callable[[], bool]) -> AsyncIterator[None]:
        """Compute in the block, once there is enough to, nothing more to decode, or that has taken its time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DECODING_SECONDS):
                while self._num_decoding + len(self._waiting) and self._is_on() and not is_enough():
                    self._was_decoded.clear()
                    await self._was_decoded.wait()
        self._is_computing = self._is_on()
        try:
            yield
        finally:
            self._is_computing = False
            self._begin()


def save_time() -> bool:
    """Whether turns do so on this machine: ONNX Runtime computes on its cores, and these are few."""
    return not has_gpu() and len(os.sched_getaffinity(0)) <= MAX_CORES
