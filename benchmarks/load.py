"""Sends images to be embedded over keep-alive connections, and prints as JSON what became of them.

    python benchmarks/load.py PORT FOLDER --clients 16 --seconds 10            each sends when it has its answer
    python benchmarks/load.py PORT FOLDER --rate 300 --seconds 10              so many a second, whatever comes back

A latency counts from when a request was due. An answer of 429 is sent again by a client a tenth of a second later, and
isn't with a rate: there the next one is due.
"""

import argparse
import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import uvloop

BOUNDARY = "load"
OK, BUSY = 200, 429
BUSY_SECONDS = 0.1


@dataclass
class Outcome:
    """What became of the requests."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)  # of those that were answered with 200


def requests(folder: Path) -> list[bytes]:
    """A request for each file of a folder."""
    return [_request(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]


def _request(name: str, content: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
    body = head + content + f"\r\n--{BOUNDARY}--\r\n".encode()
    lines = (
        "POST /v1/embeddings HTTP/1.1",
        "Host: 127.0.0.1",
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join((*lines, "\r\n")).encode() + body


class Connection(asyncio.Protocol):
    """A keep-alive connection. What it costs is taken from the service: asyncio's streams cost twice as much."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._status: asyncio.Future[int]

    async def send(self, request: bytes) -> int:
        """The status of its answer, which is read to the end."""
        loop = asyncio.get_running_loop()
        if self._transport is None or self._transport.is_closing():
            self._transport, _ = await loop.create_connection(lambda: self, "127.0.0.1", self._port)
        self._received, self._status = b"", loop.create_future()
        self._transport.write(request)
        return await self._status

    def data_received(self, data: bytes) -> None:
        """Note a part of the answer."""
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if end and len(body) == int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            if b"connection: close" in head.lower():
                self.close()
            self._status.set_result(int(head.split(b" ", 2)[1]))

    def connection_lost(self, exc: Exception | None) -> None:
        """An answer that didn't come is a failure."""
        if not self._status.done():
            self._status.set_exception(exc or ConnectionError("the service closed the connection"))

    def close(self) -> None:
        """Close it; the next request opens it again."""
        if self._transport is not None:
            self._transport.close()


async def closed_loop(port: int, bodies: list[bytes], clients: int, seconds: float) -> Outcome:
    """Clients that send one request after another."""
    outcome, end = Outcome(), time.monotonic() + seconds

    async def client(number: int) -> None:
        connection, turn = Connection(port), number
        while (due_at := time.monotonic()) < end:
            while (status := await connection.send(bodies[turn % len(bodies)])) == BUSY:
                outcome.statuses[BUSY] += 1
                await asyncio.sleep(BUSY_SECONDS)
            _note(outcome, status, due_at)
            turn += clients
        connection.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    return outcome


async def open_loop(port: int, bodies: list[bytes], rate: float, seconds: float) -> Outcome:
    """So many requests a second, each on a connection that is idle."""
    outcome, idle, tasks = Outcome(), [Connection(port)], set()
    began = time.monotonic()

    async def one(turn: int, due_at: float) -> None:
        connection = idle.pop() if idle else Connection(port)
        _note(outcome, await connection.send(bodies[turn % len(bodies)]), due_at)
        idle.append(connection)

    for turn in range(int(rate * seconds)):
        due_at = began + turn / rate
        await asyncio.sleep(max(0.0, due_at - time.monotonic()))
        tasks.add(task := asyncio.create_task(one(turn, due_at)))
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    for connection in idle:
        connection.close()
    return outcome


def _note(outcome: Outcome, status: int, due_at: float) -> None:
    outcome.statuses[status] += 1
    if status == OK:
        outcome.seconds.append(time.monotonic() - due_at)


def main() -> None:
    """Send, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--seconds", type=float, default=10)
    args = parser.parse_args()
    bodies, began, before = requests(args.folder), time.monotonic(), time.process_time()
    work = (
        open_loop(args.port, bodies, args.rate, args.seconds)
        if args.rate
        else closed_loop(args.port, bodies, args.clients, args.seconds)
    )
    outcome = uvloop.run(work)  # it takes its processor time from the service
    seconds = time.monotonic() - began
    p50, p99 = np.percentile(outcome.seconds, [50, 99]) if outcome.seconds else (0.0, 0.0)
    result = {
        "ok": outcome.statuses[OK],
        "busy": outcome.statuses[BUSY],
        "other": sum(n for status, n in outcome.statuses.items() if status not in {OK, BUSY}),
        "seconds": seconds,
        "p50_seconds": float(p50),
        "p99_seconds": float(p99),
        "generator_cpu_seconds": time.process_time() - before,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
