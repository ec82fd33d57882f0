"""Decode uploaded images in processes that can be killed, off the event loop.

A hostile file costs at most its time limit, one process's memory limit, and an error of its own.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from models.config import Preprocessing
from service.core.errors import Busy, ServiceError, TooLarge, Unavailable, Undecodable
from service.core.settings import Settings, child_environment
from service.decoder_process import LENGTHS, Header, pack_message

MAX_WAITING = 2048  # images: a second or two of work
# A usual file and a usual answer go at once: each look at the socket more is 2% of an image's time.
MESSAGE_BYTES = 2**20
START_SECONDS = 60  # within which a process must be ready
# Freed memory stays with the process: to give each image's to the kernel and ask for it anew took 8% of the time.
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20),
    "PILLOW_BLOCKS_MAX": "4",  # of 16 MiB
}
ENDED = (asyncio.IncompleteReadError, ConnectionError)  # what reading from a dead process raises

Format = Literal["jpeg", "png", "webp"]


@dataclass(frozen=True)
class Decoded:
    """An image's properties and, where a preprocessing was given, the encoder's input, (S, S, 3) uint8."""

    format: Format
    width: int
    height: int
    input: NDArray[np.uint8] | None


class DecoderDied(Exception):
    """A decoding process ended by itself: the kernel's memory limit, or a fault in a codec."""


@dataclass(frozen=True)
class _Process:
    """A running process and the socket to it."""

    process: subprocess.Popen[bytes]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def start(cls, command: Sequence[str]) -> Self:
        """Start it and wait until it is ready. Raises Unavailable."""
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MESSAGE_BYTES)
        reader, writer = await asyncio.open_connection(sock=ours, limit=MESSAGE_BYTES)
        with theirs:
            environment = {**child_environment(), **KEEP_MEMORY}
            process = subprocess.Popen(command, stdin=theirs.fileno(), env=environment)  # noqa: ASYNC220, S603  # a few ms
        started = cls(process, reader, writer)
        try:
            async with asyncio.timeout(START_SECONDS):
                await started.read()
        except BaseException as error:
            started.kill()
            if isinstance(error, (*ENDED, TimeoutError)):
                raise Unavailable("no decoding process starts; the service's log says why") from error
            raise
        return started

    async def read(self) -> tuple[Header, bytes]:
        """The next answer."""
        header_length, body_length = LENGTHS.unpack(await self.reader.readexactly(LENGTHS.size))
        header = json.loads(await self.reader.readexactly(header_length))
        return header, await self.reader.readexactly(body_length)

    async def exchange(self, header: Header, body: bytes) -> tuple[Header, bytes]:
        """The answer to a request."""
        self.writer.write(pack_message(header, len(body), body[:MESSAGE_BYTES]))
        await self.writer.drain()
        rest = memoryview(body)
        for start in range(MESSAGE_BYTES, len(body), MESSAGE_BYTES):  # what waits to be sent is a copy
            self.writer.write(rest[start : start + MESSAGE_BYTES])
            await self.writer.drain()
        return await self.read()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()
        self.writer.close()


class _Decoder:
    """A place in the pool: its process is started again after it was killed."""

    def __init__(self, settings: Settings) -> None:
        limits = [settings.max_image_bytes, settings.max_image_pixels, settings.max_image_side]
        # -P: modules come from the installation, not from the folder that the service was started in.
        self._command = [sys.executable, "-P", "-m", "service.decoder_process", str(os.getpid()), json.dumps(limits)]
        self._timeout_seconds = settings.decode_timeout_seconds
        self._process: _Process | None = None

    async def start(self) -> _Process:
        """The process, started if none runs. Raises Unavailable."""
        if self._process is None:
            self._process = await _Process.start(self._command)
        return self._process

    async def ask(self, header: Header, body: bytes) -> tuple[Header, bytes]:
        """The answer to a request. Raises TimeoutError, DecoderDied or Unavailable."""
        process = await self.start()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await process.exchange(header, body)
        except BaseException as error:  # also when the request is cancelled: the answer must not meet the next one
            self.kill()
            if isinstance(error, ENDED):
                raise DecoderDied from error
            raise

    def kill(self) -> None:
        """End the process, if one runs."""
        if self._process is not None:
            self._process.kill()
            self._process = None


class DecodingPool:
    """Processes that decode, for one event loop; they die with this process."""

    def __init__(self, settings: Settings) -> None:
        self._timeout_seconds = settings.decode_timeout_seconds
        self._decoders = [_Decoder(settings) for _ in range(settings.num_decoders)]
        self._idle: asyncio.LifoQueue[_Decoder] = asyncio.LifoQueue()  # the last one used is warm
        for decoder in self._decoders:
            self._idle.put_nowait(decoder)
        self._num_waiting = 0
        self._in_use: set[asyncio.Task[tuple[Header, bytes]]] = set()

    async def start(self) -> None:
        """Start all processes, so that the first request doesn't wait for them."""
        await asyncio.gather(*(decoder.start() for decoder in self._decoders))

    async def decode(self, content: bytes, preprocessing: Preprocessing | None) -> Decoded:
        """The image in a file, for an encoder's input if one is given. Raises Undecodable, TooLarge or Busy."""
        self._check_room(1)
        return await self._decode(content, preprocessing)

    async def _decode(self, content: bytes, preprocessing: Preprocessing | None) -> Decoded:
        request = {"preprocessing": preprocessing.model_dump() if preprocessing else None}
        header, body = await self._ask(request, content)
        pixels = None
        if preprocessing:
            side = preprocessing.image_size
            pixels = np.frombuffer(body, np.uint8).reshape(side, side, 3)
        return Decoded(header["format"], header["width"], header["height"], pixels)

    async def decode_all(
        self, contents: Sequence[bytes], preprocessing: Preprocessing | None
    ) -> list[Decoded | ServiceError]:
        """The image in each file, or why it has none; the caller has seen that there is room for so many."""
        tasks = [self._outcome(content, preprocessing) for content in contents]
        return await asyncio.gather(*tasks)

    async def _outcome(self, content: bytes, preprocessing: Preprocessing | None) -> Decoded | ServiceError:
        try:
            return await self._decode(content, preprocessing)
        except (Undecodable, TooLarge) as error:
            return error

    async def render(self, content: bytes, size: int | None) -> tuple[Format, bytes]:
        """The image encoded anew in its own format, its longer side at most `size`: nothing but pixels is left."""
        self._check_room(1)
        header, body = await self._ask({"size": size}, content)
        return header["format"], body

    def _check_room(self, num_images: int) -> None:
        if self._num_waiting + num_images > MAX_WAITING:
            waiting = f"{self._num_waiting} images wait to be decoded"
            raise Busy(f"{waiting}; try again in a second", retry_after_seconds=1)

    async def _ask(self, request: Header, content: bytes) -> tuple[Header, bytes]:
        self._num_waiting += 1
        try:
            decoder = await self._idle.get()
        finally:
            self._num_waiting -= 1
        # A client that goes away costs no process: its image is decoded to the end, which is soon.
        task = asyncio.create_task(self._use(decoder, request, content))
        self._in_use.add(task)
        task.add_done_callback(self._in_use.discard)
        header, body = await asyncio.shield(task)
        if "code" in header:
            kind = TooLarge if header["code"] == TooLarge.code else Undecodable
            raise kind(header["detail"], code=header["code"])
        return header, body

    async def _use(self, decoder: _Decoder, request: Header, content: bytes) -> tuple[Header, bytes]:
        try:
            return await decoder.ask(request, content)
        except TimeoutError as error:
            detail = f"decoding it takes more than {self._timeout_seconds:g} seconds"
            raise Undecodable(detail, code="decode_timeout") from error
        except DecoderDied as error:
            raise Undecodable("its decoder crashed") from error
        finally:
            self._idle.put_nowait(decoder)

    def close(self) -> None:
        """Kill the processes; what is being decoded fails."""
        for decoder in self._decoders:
            decoder.kill()
