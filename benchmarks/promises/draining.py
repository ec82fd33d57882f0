"""The API is told to stop while it works: what is under way is answered, then it ends.

A client that sends `Expect: 100-continue` is told when the API has begun to read its request.
"""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from api_server import Server
from load import BOUNDARY
from promises.ledger import Ledger

NUM_REQUESTS = 4
STOPPED_SECONDS = 0.3  # after which the bodies are sent
END_SECONDS, TIMEOUT_SECONDS = 10, 30


def measure(ledger: Ledger, server: Server, images: Path) -> None:
    """Stop the server; enter what became of its requests."""
    content = next(images.iterdir()).read_bytes()
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'.encode()
    body = part + content + f"\r\n--{BOUNDARY}--\r\n".encode()
    begun = [_begin(server.port, len(body)) for _ in range(NUM_REQUESTS)]
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(server.terminate)
        time.sleep(STOPPED_SECONDS)
        cut = sum(not _finish(connection, body) for connection in begun)
        ended.result()
    seconds = time.monotonic() - began
    ledger.none("cut_by_stop", "SIGTERM: the API answers what is under way", cut, of=f"cut of {NUM_REQUESTS}")
    ledger.at_most("api_drain_seconds", "SIGTERM: then it ends", END_SECONDS, seconds, "s")


def _begin(port: int, length: int) -> socket.socket:
    """A connection on which the API waits for a body."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS)
    lines = (
        "POST /v1/embeddings HTTP/1.1",
        "Host: 127.0.0.1",
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
        f"Content-Length: {length}",
        "Expect: 100-continue",
    )
    connection.sendall("\r\n".join((*lines, "\r\n")).encode())
    if b" 100 " not in connection.recv(64):
        raise ConnectionError("the API does not say that it reads")
    return connection


def _finish(connection: socket.socket, body: bytes) -> bool:
    """Whether the answer is 200."""
    with connection:
        try:
            connection.sendall(body)
            return connection.recv(12).endswith(b" 200")
        except ConnectionError:
            return False
