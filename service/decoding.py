"""Decode uploaded images in processes that can be killed, off the event loop.

A hostile file costs at most its time limit, one process's memory limit, and an error of its own.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from models.config import Preprocessing
from service.core.errors import Busy, ServiceError, TooLarge, Undecodable
from service.core.settings import Settings
from service.decoder import Decoder, DecoderDied
from service.decoder_process import Header
from service.together import together

MAX_WAITING = 2048  # images: a second or two of work

Format = Literal["jpeg", "png", "webp"]


@dataclass(frozen=True)
class Decoded:
    """An image's properties and, where a preprocessing was given, the encoder's input, (S, S, 3) uint8."""

    format: Format
    width: int
    height: int
    input: NDArray[np.uint8] | None


class DecodingPool:
    """Processes that decode, for one event loop; they die with this process."""

    def __init__(self, settings: Settings) -> None:
        self._timeout_seconds = settings.decode_timeout_seconds
        self._decoders = [Decoder(settings) for _ in range(settings.num_decoders)]
        self._idle: asyncio.LifoQueue[Decoder] = asyncio.LifoQueue()  # the last one used is warm
        for decoder in self._decoders:
            self._idle.put_nowait(decoder)
        self._num_waiting = 0

    async def start(self) -> None:
        """Start all processes, so that the first request doesn't wait for them."""
        await asyncio.gather(*(decoder.start() for decoder in self._decoders))

    async def decode(self, content: bytes, preprocessing: Preprocessing | None) -> Decoded:
        """The image in a file, for an encoder's input if one is given. Raises Undecodable, TooLarge or Busy."""
        self._check_room(1)
        return await self._decode(content, preprocessing)

    async def _decode(self, content: bytes, preprocessing: Preprocessing | None) -> Decoded:
        header, body = await self._ask(_request(preprocessing), content)
        pixels = None
        if preprocessing:
            side = preprocessing.image_size
            pixels = np.frombuffer(body, np.uint8).reshape(side, side, 3)
        return Decoded(header["format"], header["width"], header["height"], pixels)

    async def decode_all(
        self, contents: Sequence[bytes], preprocessing: Preprocessing | None
    ) -> list[Decoded | ServiceError]:
        """The image in each file, or why it has none; the caller has seen that there is room for so many."""
        return await together([self._outcome(content, preprocessing) for content in contents])

    async def _outcome(self, content: bytes, preprocessing: Preprocessing | None) -> Decoded | ServiceError:
        try:
            return await self._decode(content, preprocessing)
        except (Undecodable, TooLarge) as error:
            return error

    async def render(self, content: bytes, size: int | None) -> tuple[Format, bytes]:
        """The image encoded anew in its own format, its longer side at most `size`: nothing but pixels is left."""
        self._check_room(1)
        header, body = await self._ask(orjson.dumps({"size": size}), content)
        return header["format"], body

    def _check_room(self, num_images: int) -> None:
        if self._num_waiting + num_images > MAX_WAITING:
            waiting = f"{self._num_waiting} images wait to be decoded"
            raise Busy(f"{waiting}; try again in a second", retry_after_seconds=1)

    async def _ask(self, request: bytes, content: bytes) -> tuple[Header, bytes]:
        self._num_waiting += 1
        try:
            decoder = await self._idle.get()
        finally:
            self._num_waiting -= 1
        try:
            await decoder.start()
        except BaseException:
            self._idle.put_nowait(decoder)
            raise
        answer = decoder.ask(request, content)
        answer.add_done_callback(lambda _: self._idle.put_nowait(decoder))
        try:
            # A client that goes away costs no process: its image is decoded to the end, which is soon.
            header, body = await asyncio.shield(answer)
        except TimeoutError as error:
            detail = f"decoding it takes more than {self._timeout_seconds:g} seconds"
            raise Undecodable(detail, code="decode_timeout") from error
        except DecoderDied as error:
            raise Undecodable("its decoder crashed") from error
        if "code" in header:
            kind = TooLarge if header["code"] == TooLarge.code else Undecodable
            raise kind(header["detail"], code=header["code"])
        return header, body

    def close(self) -> None:
        """Kill the processes; what is being decoded fails."""
        for decoder in self._decoders:
            decoder.kill()


@lru_cache(maxsize=16)
def _request(preprocessing: Preprocessing | None) -> bytes:
    return orjson.dumps({"preprocessing": preprocessing.model_dump() if preprocessing else None})
