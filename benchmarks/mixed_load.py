"""Does an API that does everything at once for minutes stay well, and keep its size?

    python benchmarks/mixed_load.py [--seconds 300] [--clients 8] [--out mixed-load.json]

Starts an API with its database and a small model, and lets clients embed, search, upload, delete, list, post jobs and
cancel them, ask for nonsense, send slowly, and go away in the middle (traffic.py). There is no worker: jobs wait until
they are cancelled.

Memory is that of the API and its decoders (RSS): the median of the second minute beside that of the last. By then what
fills itself is full: the cache of embeddings has a few MB here. Their PSS, in which what they share counts once, is
told too; it moves with whoever else has the same libraries in memory. Ends with one JSON line; exits with 1 if an
answer was not one that its operation may have (so also for a 5xx), or memory grew by more than 5%.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from api_server import Server, running_api, running_database
from machine import device_name, versions
from rich.console import Console
from rich.table import Table
from traffic import SIDE, Outcome, Traffic

from service.core.db import Database
from service.core.storage import LocalStorage
from tests.small_models import publish

MAX_GROWTH = 1.05
SAMPLE_SECONDS = 2
MINUTE = 60
SETTINGS = {"result_cache_bytes": str(4 * 2**20)}


class Sample(NamedTuple):
    """Memory at an instant, counted from the start of the load."""

    at_seconds: float
    rss_bytes: int
    pss_bytes: int


async def load(server: Server, clients: int, seconds: float) -> tuple[dict[str, Outcome], list[Sample]]:
    """Have the clients work, and look at the memory meanwhile."""
    began, samples = time.monotonic(), []
    async with Traffic(server.url) as traffic:
        workers = [asyncio.create_task(traffic.client(seed, began + seconds)) for seed in range(clients)]
        while not all(worker.done() for worker in workers):
            at_seconds = time.monotonic() - began
            samples.append(Sample(at_seconds, *await asyncio.to_thread(server.memory)))
            await asyncio.sleep(SAMPLE_SECONDS)
        await asyncio.gather(*workers)
    return traffic.outcomes, samples


def growth(samples: Sequence[Sample], seconds: float) -> dict[str, Any]:
    """Medians of each minute in MB, and of the last over the second; a shorter run has five such parts as well."""
    num_parts = max(5, round(seconds / MINUTE))
    found: dict[str, Any] = {}
    for name in ("rss", "pss"):
        parts: list[list[int]] = [[] for _ in range(num_parts)]
        for sample in samples:
            parts[min(num_parts - 1, int(sample.at_seconds / seconds * num_parts))].append(
                getattr(sample, f"{name}_bytes")
            )
        medians = [statistics.median(part) / 1e6 for part in parts]
        found[f"{name}_mb_by_minute"] = [round(median, 1) for median in medians]
        found[f"{name}_growth"] = round(medians[-1] / medians[1], 4)
    return found


def show(outcomes: dict[str, Outcome]) -> None:
    """Print the operations as a table."""
    table = Table("operation", "statuses", "unexpected", "p50, ms", "p99, ms")
    for name, outcome in outcomes.items():
        statuses = ", ".join(f"{number} x {status}" for status, number in sorted(outcome.statuses.items()))
        times = [f"{1000 * outcome.percentile(q):.0f}" for q in (50, 99)]
        table.add_row(name, statuses, str(outcome.num_unexpected), *times)
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def summary(outcomes: dict[str, Outcome], samples: Sequence[Sample], seconds: float) -> dict[str, Any]:
    """All figures."""
    statuses = sum((outcome.statuses for outcome in outcomes.values()), start=Outcome().statuses)
    return {
        "seconds": seconds,
        "requests": statuses.total(),
        "server_errors": sum(number for status, number in statuses.items() if status >= 500),
        "unexpected": sum(outcome.num_unexpected for outcome in outcomes.values()),
        "refused": statuses[429],
        **growth(samples, seconds),
        "operations": {name: outcome.as_json() for name, outcome in outcomes.items()},
    }


def main() -> int:
    """Measure, and print; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--out", type=Path, help="file for the JSON line")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="simclr-mixed-") as name, running_database(Path(name)) as database_url:
        with closing(Database(database_url)) as database:
            publish(database, LocalStorage(Path(name) / "storage"), encoder="resnet10", side=SIDE)
        with running_api(Path(name), database_url, **SETTINGS) as server:
            outcomes, samples = asyncio.run(load(server, options.clients, options.seconds))
    result = summary(outcomes, samples, options.seconds)
    show(outcomes)
    line = json.dumps({**result, "clients": options.clients, "device": device_name(), "versions": versions()})
    if options.out:
        options.out.write_text(line + "\n")
    print(line)
    return int(result["unexpected"] > 0 or result["rss_growth"] > MAX_GROWTH)


if __name__ == "__main__":
    sys.exit(main())
