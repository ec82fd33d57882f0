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
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.config import Preprocessing
from service.core.errors import Busy, ServiceError, TooLarge, Undecodable
from service.core.settings import Settings
from service.decoder_process import LENGTHS, Header, pack_message

MAX_WAITING = 2048  # images: a second or two of work
START_SECONDS = 60  # within which a process must be ready

Format = Literal["jpeg", "png", "webp"]


@dataclass(frozen=True)
class Decoded:
    """An image's properties and, where a preprocessing was given, the encoder's input, (S, S, 3) uint8."""

    format: Format
    width: int
    height: int
    input: NDArray[np.uint8] | None


class DecoderDied(Exception):
    """A decoding process ended by itself: its memory limit, or a fault in a codec."""


class _DecoderProcess:
    """One process, started when it is first asked and again after it was killed."""

    def __init__(self, settings: Settings) -> None:
        limits = [settings.max_image_bytes, settings.max_image_pixels, settings.max_image_side]
        # -P: modules come from the installation, not from the folder that the service was started in.
        command = [sys.executable, "-P", "-m", "service.decoder_process", str(os.getpid()), json.dumps(limits)]
        self._command = command
        self._timeout_seconds = settings.decode_timeout_seconds
        self._process: subprocess.Popen[bytes] | None = None

    async def ask(self, header: Header, body: bytes) -> tuple[Header, bytes]:
        """The answer to a request. Raises TimeoutError or DecoderDied; the process is killed then."""
        try:
            if self._process is None:
                async with asyncio.timeout(START_SECONDS):
                    await self._start()
            async with asyncio.timeout(self._timeout_seconds):
                return await self._exchange(header, body)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self.kill()
            raise DecoderDied from error
        except BaseException:  # also when the request is cancelled: the answer must not meet the next one
            self.kill()
            raise

    async def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(self._command, stdin=theirs.fileno())  # noqa: ASYNC220, S603  # a few ms, own module
        self._reader, self._writer = await asyncio.open_connection(sock=ours)
        await self._read()

    async def _exchange(self, header: Header, body: bytes) -> tuple[Header, bytes]:
        self._writer.write(pack_message(header, body))
        await self._writer.drain()
        return await self._read()

    async def _read(self) -> tuple[Header, bytes]:
        header_length, body_length = LENGTHS.unpack(await self._reader.readexactly(LENGTHS.size))
        header = json.loads(await self._reader.readexactly(header_length))
        return header, await self._reader.readexactly(body_length)

    def kill(self) -> None:
        """End the process at once."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process = None
        self._writer.close()


class DecodingPool:
    """Processes that decode, for one event loop; they die with this process."""

    def __init__(self, settings: Settings) -> None:
        self._timeout_seconds = settings.decode_timeout_seconds
        self._processes = [_DecoderProcess(settings) for _ in range(settings.num_decoders)]
        self._idle: asyncio.LifoQueue[_DecoderProcess] = asyncio.LifoQueue()  # the last one used is warm
        for process in self._processes:
            self._idle.put_nowait(process)
        self._num_waiting = 0

    async def decode(self, content: bytes, preprocessing: Preprocessing | None) -> Decoded:
        """The image in a file, for an encoder's input if one is given. Raises Undecodable, TooLarge or Busy."""
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
        """The image in each file, or why it has none. Raises Busy if that is for one too many."""
        tasks = [self._outcome(content, preprocessing) for content in contents]
        return await asyncio.gather(*tasks)

    async def _outcome(self, content: bytes, preprocessing: Preprocessing | None) -> Decoded | ServiceError:
        try:
            return await self.decode(content, preprocessing)
        except (Undecodable, TooLarge) as error:
            return error

    async def render(self, content: bytes, size: int | None) -> tuple[Format, bytes]:
        """The image encoded anew in its own format, its longer side at most `size`: nothing but pixels is left."""
        header, body = await self._ask({"size": size}, content)
        return header["format"], body

    async def _ask(self, request: Header, content: bytes) -> tuple[Header, bytes]:
        if self._num_waiting >= MAX_WAITING:
            raise Busy(f"{MAX_WAITING} images wait to be decoded; try again in a second", retry_after_seconds=1)
        self._num_waiting += 1
        try:
            process = await self._idle.get()
        finally:
            self._num_waiting -= 1
        try:
            header, body = await process.ask(request, content)
        except TimeoutError as error:
            detail = f"decoding it takes more than {self._timeout_seconds:g} seconds"
            raise Undecodable(detail, code="decode_timeout") from error
        except DecoderDied as error:
            raise Undecodable("its decoder crashed") from error
        finally:
            self._idle.put_nowait(process)
        if "code" in header:
            kind = TooLarge if header["code"] == TooLarge.code else Undecodable
            raise kind(header["detail"], code=header["code"])
        return header, body

    def close(self) -> None:
        """Kill the processes; what is being decoded fails."""
        for process in self._processes:
            process.kill()
