"""Is an acknowledged upload ever lost? The API and the database are killed (-9) in the middle of uploads.

    python benchmarks/upload_crashes.py [--rounds 12] [--seed 0]

Starts the service with a small model in production. Four clients upload images; after a random time the API, PostgreSQL
or both are killed, in turn. Once the service is ready again, every image that was ever acknowledged must have its row,
its place in the collection, its bytes and its vector; no vector may be without a row, and no row without bytes and
vector. Every third round the whole service is killed as well, and started again.

Ends with one JSON line; exits with 1 if anything was lost or half there.
"""

import argparse
import hashlib
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from urllib.parse import quote

import httpx
import psutil
from sqlalchemy import text

from service.client import ApiError, Client
from service.core.db import AWAY, Database
from service.core.storage import LocalStorage
from tests.models.image_files import encode, noise
from tests.small_models import publish
from tests.stack import Stack, running_stack
from tests.waiting import wait_until

NUM_CLIENTS = 4
BATCH = 8  # images of a request
VICTIMS = (("API",), ("PostgreSQL",), ("API", "PostgreSQL"))
ROUNDS_A_START = 3
READY_SECONDS = 60
COLLECTION = "crashes"


@dataclass
class Uploads:
    """What the clients sent, and what was acknowledged."""

    acknowledged: set[str] = field(default_factory=set)
    num_failed: int = 0
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def run(self, url: str, stopped: threading.Event) -> None:
        """Upload until told to stop; a request that fails is forgotten."""
        with Client(url, timeout_seconds=20, retry_seconds=0) as client:
            while not stopped.is_set():
                contents = [encode(noise(8, 8, seed=next(self._numbers)), "png") for _ in range(BATCH)]
                try:
                    items = client.add_images([("x.png", content) for content in contents], collection=COLLECTION)
                except (ApiError, httpx.TransportError):
                    self.num_failed += 1
                    time.sleep(0.05)
                    continue
                self.acknowledged.update(item["id"] for item in items if item["status"] == "created")


@contextmanager
def opened(stack: Stack) -> Iterator[Database]:
    """The stack's own database."""
    socket = stack.data_dir.absolute() / "postgres" / "socket"
    with closing(Database(f"postgresql://postgres@/postgres?host={quote(str(socket))}")) as database:
        yield database


def kill(stack: Stack, names: tuple[str, ...]) -> None:
    """Kill parts of the stack, and with PostgreSQL all its processes."""
    pids = stack.pids()
    for name in names:
        parent = psutil.Process(pids[name])
        for process in [parent, *parent.children(recursive=True)]:
            process.kill()
    wait_until(lambda: not any(pids[name] in stack.pids().values() for name in names), READY_SECONDS)
    wait_until(stack.is_ready, READY_SECONDS)


def faults(stack: Stack, acknowledged: set[str]) -> dict[str, int]:
    """What is lost, and what is half there."""
    with opened(stack) as database, database.transaction() as session:
        (number,) = session.scalars(text("select number from embedding_table")).all()
        statement = f"""
            select image.id, image.key, c.image_id is not null as is_member, v.image_id is not null as has_vector
            from image left join collection_image c on c.image_id = image.id
            left join emb_{number:d} v on v.image_id = image.id
        """  # noqa: S608  # made from an integer
        rows = session.execute(text(statement)).all()
        orphans = (
            f"select count(*) from emb_{number:d} v left join image on image.id = v.image_id where image.id is null"  # noqa: S608  # as above
        )
        num_orphans = session.scalar(text(orphans))
    storage = LocalStorage(stack.data_dir / "storage")
    whole = {row.id for row in rows if row.is_member and row.has_vector and _is_whole(storage, row.key, row.id)}
    return {
        "lost": len(acknowledged - {row.id for row in rows}),
        "incomplete": len(rows) - len(whole),
        "vectors_without_row": num_orphans or 0,
    }


def _is_whole(storage: LocalStorage, key: str, id_: str) -> bool:
    return hashlib.sha256(storage.get(key)).hexdigest() == id_


def run_round(stack: Stack, uploads: Uploads, victims: tuple[str, ...], seconds: float) -> dict[str, int]:
    """Upload, kill in the middle, wait, look."""
    stopped = threading.Event()
    with ThreadPoolExecutor(NUM_CLIENTS) as pool:
        before = len(uploads.acknowledged)
        clients = [pool.submit(uploads.run, stack.base_url, stopped) for _ in range(NUM_CLIENTS)]
        try:
            wait_until(lambda: len(uploads.acknowledged) > before, READY_SECONDS)
            time.sleep(seconds)
            kill(stack, victims)
        finally:
            stopped.set()
        for client in clients:
            client.result()
    return faults(stack, uploads.acknowledged)


def run(folder: Path, rounds: int, seed: int) -> dict[str, int]:
    """All rounds; the sum of their faults."""
    draw = random.Random(seed)  # noqa: S311  # when it is killed
    uploads, total = Uploads(), {"lost": 0, "incomplete": 0, "vectors_without_row": 0}
    for first in range(0, rounds, ROUNDS_A_START):
        with running_stack(folder) as stack:
            if first == 0:
                with opened(stack) as database:
                    publish(database, LocalStorage(stack.data_dir / "storage"))
            for number in range(first, min(rounds, first + ROUNDS_A_START)):
                # The last kinds first: a single round kills both.
                victims = VICTIMS[-1 - number % len(VICTIMS)]
                found = run_round(stack, uploads, victims, draw.uniform(0.2, 2))
                total = {name: total[name] + found[name] for name in total}
                print(f"{' and '.join(victims)}: {len(uploads.acknowledged)} acknowledged, {found}", file=sys.stderr)
            stack.process.kill()
    return {"rounds": rounds, "acknowledged": len(uploads.acknowledged), "failed": uploads.num_failed, **total}


def main() -> int:
    """Run the benchmark; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="crashes-") as folder:
        try:
            result = run(Path(folder), options.rounds, options.seed)
        except AWAY as error:
            sys.exit(f"the database did not come back: {error}")
    print(json.dumps(result))
    return 0 if result["lost"] == result["incomplete"] == result["vectors_without_row"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
