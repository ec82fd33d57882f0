"""Decoding and computing take turns on a machine of few cores.

ONNX Runtime cuts a batch into as many pieces as there are cores and waits for the last one: a core that decodes
meanwhile holds up the others. Measured on two cores, 16 clients, photographs for ResNet-18 in float32: side by side an
image costs 8% more processor time than decoding and computing alone do, in turns 3%, and is there sooner.
(docs/decisions/0025)
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from models.embedder import has_gpu

MAX_CORES = 4  # with more of them, some are left for decoding
DECODING_SECONDS = 0.1  # that a batch waits at most: somebody's image may take seconds to decode


class Turns:
    """Whose turn it is, for one event loop. While it is off, everybody goes when they like."""

    def __init__(self, num_decoders: int, *, is_on: Callable[[], bool]) -> None:
        self._is_on = is_on
        self._slots = asyncio.Semaphore(num_decoders)  # who hasn't got one can still be told to wait
        self._nothing_computed = asyncio.Event()
        self._nothing_computed.set()
        self._num_to_decode = 0
        self._was_decoded = asyncio.Event()

    @asynccontextmanager
    async def decoding(self) -> AsyncIterator[None]:
        """Decode in the block, once nothing is computed; what its task gives to the batcher then is in that batch."""
        if not self._is_on():
            yield
            return
        self._num_to_decode += 1
        try:
            async with self._slots:
                await self._nothing_computed.wait()
                yield
        finally:
            self._num_to_decode -= 1
            self._was_decoded.set()

    @asynccontextmanager
    async def computing(self, is_enough: Callable[[], bool]) -> AsyncIterator[None]:
        """Compute in the block, once there is enough to, nothing more to decode, or that has taken its time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DECODING_SECONDS):
                while self._num_to_decode and self._is_on() and not is_enough():
                    self._was_decoded.clear()
                    await self._was_decoded.wait()
        if self._is_on():
            self._nothing_computed.clear()
        try:
            yield
        finally:
            self._nothing_computed.set()


def save_time() -> bool:
    """Whether turns do so on this machine: ONNX Runtime computes on its cores, and these are few."""
    return not has_gpu() and len(os.sched_getaffinity(0)) <= MAX_CORES
