"""A process that decodes, as the API sees it: started, asked, killed when it takes too long, and started again."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from mmap import mmap
from typing import Self

import orjson

from service.core.errors import Unavailable
from service.core.settings import Settings, child_environment
from service.decoder_process import LENGTHS, Header, pack_message
from service.shared_memory import SHARED_BYTES, shared_memory

START_SECONDS = 60  # within which a process must be ready
# Freed memory stays with the process: to give each image's to the kernel and ask for it anew took 8% of the time.
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20),
    "PILLOW_BLOCKS_MAX": "4",  # of 16 MiB
}

Answer = asyncio.Future[tuple[Header, bytes]]


class DecoderDied(Exception):
    """A decoding process ended by itself: the kernel's memory limit, or a fault in a codec."""


class _Process(asyncio.Protocol):
    """A running process, the socket to it, the memory that it shares, and its next answer."""

    process: subprocess.Popen[bytes]
    memory: mmap
    transport: asyncio.WriteTransport

    def __init__(self) -> None:
        self.has_ended = False
        self.answer: Answer = asyncio.get_running_loop().create_future()
        self._received = bytearray()

    @classmethod
    async def start(cls, command: Sequence[str]) -> Self:
        """Start it and wait until it is ready. Raises Unavailable."""
        ours, theirs = socket.socketpair()
        with theirs, shared_memory() as (descriptor, memory):
            transport, started = await asyncio.get_running_loop().create_connection(cls, sock=ours)
            started.transport, started.memory = transport, memory
            started.process = subprocess.Popen(  # noqa: ASYNC220, S603  # a few ms
                [*command, str(descriptor)],
                stdin=theirs.fileno(),
                pass_fds=[descriptor],
                env={**child_environment(), **KEEP_MEMORY},
            )
        try:
            async with asyncio.timeout(START_SECONDS):
                await started.answer
        except BaseException as error:
            started.kill()
            if isinstance(error, (DecoderDied, TimeoutError)):
                raise Unavailable("no decoding process starts; the service's log says why") from error
            raise
        return started

    def ask(self, header: bytes, body: bytes) -> Answer:
        """The answer to a request, once it comes; DecoderDied if none comes."""
        self.answer = asyncio.get_running_loop().create_future()
        in_memory = len(body) <= SHARED_BYTES
        if in_memory:
            self.memory[: len(body)] = body
        self.transport.write(pack_message(header, len(body)))
        if not in_memory:
            self.transport.write(body)
        return self.answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) < LENGTHS.size:
            return
        header_length, body_length = LENGTHS.unpack_from(self._received)
        body_start = LENGTHS.size + header_length
        in_memory = body_length <= SHARED_BYTES
        if len(self._received) < body_start + (0 if in_memory else body_length):
            return
        header = orjson.loads(self._received[LENGTHS.size : body_start])
        body = self.memory[:body_length] if in_memory else bytes(self._received[body_start:])
        self._received = bytearray()
        if not self.answer.done():  # else it comes too late
            self.answer.set_result((header, body))

    def connection_lost(self, exc: Exception | None) -> None:
        self.has_ended = True
        self.fail(DecoderDied())

    def fail(self, error: Exception) -> None:
        """Have it that no answer comes."""
        if not self.answer.done():
            self.answer.set_exception(error)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()
        self.transport.abort()


class Decoder:
    """A place in the pool: its process is started again after it was killed."""

    def __init__(self, settings: Settings) -> None:
        limits = [settings.max_image_bytes, settings.max_image_pixels, settings.max_image_side]
        # -P: modules come from the installation, not from the folder that the service was started in.
        self._command = [sys.executable, "-P", "-m", "service.decoder_process", str(os.getpid()), json.dumps(limits)]
        self._timeout_seconds = settings.decode_timeout_seconds
        self._process: _Process | None = None

    async def start(self) -> None:
        """See that a process runs. Raises Unavailable."""
        if self._process is not None and self._process.has_ended:  # while nothing was asked of it
            self.kill()
        if self._process is None:
            self._process = await _Process.start(self._command)

    def ask(self, header: bytes, body: bytes) -> Answer:
        """The answer to a request, once it comes, of a process that has started; or TimeoutError or DecoderDied."""
        assert self._process is not None
        answer = self._process.ask(header, body)
        late = asyncio.get_running_loop().call_later(self._timeout_seconds, self._process.fail, TimeoutError())

        def end(answer: Answer) -> None:
            late.cancel()
            if answer.exception():
                self.kill()

        answer.add_done_callback(end)
        return answer

    def kill(self) -> None:
        """End the process, if one runs."""
        if self._process is not None:
            self._process.kill()
            self._process = None
