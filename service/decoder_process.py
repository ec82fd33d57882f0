"""The process that touches hostile bytes: it reads an image file from its socket and answers with pixels.

    python -m service.decoder_process PARENT_PID LIMITS MEMORY

LIMITS are a JSON list, the socket is file descriptor 0, MEMORY one of memory that both processes share. A message is
two lengths, a JSON header and a body, which is in the memory if it fits there, else behind the header. Requests:
{"preprocessing": {...} or null} and {"size": n or null}, each with a file as its body. Answers: {"format", "width",
"height"} with the encoder's input or the encoded image as the body, or {"code", "detail"} of a refusal. A first empty
answer says that the process is ready.
"""

import json
import os
import resource
import signal
import socket
import struct
import sys
from functools import lru_cache
from io import BufferedRWPair, BytesIO
from mmap import mmap
from pathlib import Path
from typing import Any

import orjson
from PIL import Image

from models.config import Preprocessing
from models.preprocess import ImageLimits, UndecodableImage, decode, to_input
from service.core.child import die_with_parent
from service.scheduling import give_way
from service.shared_memory import SHARED_BYTES, map_shared

LENGTHS = struct.Struct(">II")  # of the header and of the body
MEMORY_BYTES = 2**30  # above what the process has at its start
QUALITY = 90  # of JPEG and WebP

Header = dict[str, Any]


def pack_message(header: bytes, body_length: int) -> bytes:
    """A message as it is sent, up to its body."""
    return LENGTHS.pack(len(header), body_length) + header


def main() -> None:
    """Answer requests until the parent closes the socket or dies."""
    parent_pid, limits = int(sys.argv[1]), ImageLimits(*json.loads(sys.argv[2]))
    memory = map_shared(int(sys.argv[3]))
    die_with_parent(parent_pid, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends this
    give_way()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with socket.socket(fileno=0) as connection, connection.makefile("rwb") as stream:
        _send(stream, memory, {}, b"")
        while lengths := stream.read(LENGTHS.size):
            header_length, body_length = LENGTHS.unpack(lengths)
            request = orjson.loads(stream.read(header_length))
            content = memory[:body_length] if body_length <= SHARED_BYTES else stream.read(body_length)
            _send(stream, memory, *_answer(request, content, limits))


def _send(stream: BufferedRWPair, memory: mmap, header: Header, body: bytes | memoryview) -> None:
    stream.write(pack_message(orjson.dumps(header), len(body)))
    if len(body) <= SHARED_BYTES:
        memory[: len(body)] = body
    else:
        stream.write(body)
    stream.flush()


def _answer(request: Header, content: bytes, limits: ImageLimits) -> tuple[Header, bytes | memoryview]:
    try:
        if "size" in request:
            return _render(content, request["size"], limits)
        return _decode(content, request["preprocessing"], limits)
    except UndecodableImage as error:
        return {"code": error.code, "detail": error.detail}, b""
    except MemoryError:
        return {"code": "too_large", "detail": f"decoding it takes more than {MEMORY_BYTES:,} bytes of memory"}, b""


def _decode(content: bytes, preprocessing: Header | None, limits: ImageLimits) -> tuple[Header, bytes | memoryview]:
    pixels: bytes | memoryview = b""
    if preprocessing is None:
        image = decode(content, limits)
    else:
        rules = _preprocessing(**preprocessing)
        image = decode(content, limits, rules.storage_side)
        pixels = to_input(image.image, rules).data.cast("B")
    return {"format": image.format, "width": image.width, "height": image.height}, pixels


@lru_cache(maxsize=16)
def _preprocessing(**fields: Any) -> Preprocessing:
    return Preprocessing.model_validate(fields)


def _render(content: bytes, size: int | None, limits: ImageLimits) -> tuple[Header, bytes]:
    """The pixels encoded anew, without metadata or anything that was hidden in the file."""
    decoded = decode(content, limits)
    image = Image.fromarray(decoded.pixels)
    if size is not None:
        image.thumbnail((size, size))
    buffer = BytesIO()
    image.save(buffer, decoded.format, quality=QUALITY)  # PNG takes no notice of it
    return {"format": decoded.format, "width": image.width, "height": image.height}, buffer.getvalue()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
