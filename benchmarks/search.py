"""Nearest neighbours in PostgreSQL against exact search, faiss HNSW and LanceDB: recall@10, latency, throughput.

    python benchmarks/search.py [--full] [--sizes 10000x512 ...] [--out search.json]

Starts an embedded PostgreSQL in a temporary folder, loads clustered vectors by COPY, builds and measures the index as
the job `index` does, and asks through service.core.nearest, in one process with 1 and 4 threads. Queries are no vectors
of the table. Filters of 50, 10, 1 and 0.1% of the images are independent of the vectors (`any`) or go with them
(`near`: a slice of space; most queries lie outside it). Last, a tenth of the images is deleted. What is right comes
from NumPy.

The default is a check on 10,000 vectors; --full adds 100,000 and 1,000,000 of 512 values and 100,000 of 2,048: two
hours and 12 GB of disk. faiss and LanceDB come with benchmarks/requirements.txt; without them their figures are
null. Ends with one JSON line. Run it on an idle machine.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from clustered import SELECTIVITIES, Clustered, Vectors, notes
from machine import device_name, versions
from numpy.typing import NDArray
from other_engines import faiss_hnsw, lance
from rich.console import Console
from vector_store import Store, running_store

from service.core.filters import Condition, Equals

K = 10
NUM_QUERIES = 200
NUM_CLIENTS = 4
DEFAULT_SIZES = ("10000x512",)
FULL_SIZES = ("10000x512", "100000x512", "100000x2048", "1000000x512")

console = Console(stderr=True)
Ids = NDArray[np.int64]
JSON = dict[str, Any]


def exact_answers(data: Clustered, queries: Vectors, keep: Sequence[NDArray[np.bool_]]) -> list[Ids]:
    """For each set of vectors that `keep` names, the K nearest to each query (queries, K), by NumPy; -1: none."""
    unit = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    scores = [np.full((len(queries), K), -np.inf, np.float32) for _ in keep]
    ids = [np.full((len(queries), K), -1, np.int64) for _ in keep]
    start = 0
    for block in data.blocks():
        cosines = unit @ (block / np.linalg.norm(block, axis=1, keepdims=True)).T  # (queries, rows)
        for i, kept in enumerate(keep):
            rows = np.flatnonzero(kept[start : start + len(block)])
            both = np.hstack([scores[i], cosines[:, rows]])
            named = np.hstack([ids[i], np.broadcast_to(start + rows, (len(queries), len(rows)))])
            best = np.argsort(-both, axis=1)[:, :K]
            scores[i], ids[i] = np.take_along_axis(both, best, 1), np.take_along_axis(named, best, 1)
        start += len(block)
    return ids


def recall(found: Sequence[Sequence[int]], exact: Ids) -> float:
    """The share of the exact answers that were found."""
    expected = [set(row.tolist()) - {-1} for row in exact]
    shared = sum(len(set(ids) & wanted) for ids, wanted in zip(found, expected, strict=True))
    return shared / sum(map(len, expected))


def timed(ask: Callable[[Vectors], Sequence[int]], queries: Vectors) -> tuple[list[Sequence[int]], JSON]:
    """What was found, and milliseconds, after a few queries that don't count."""
    for query in queries[:10]:
        ask(query)
    found, milliseconds = [], []
    for query in queries:
        started = time.perf_counter()
        found.append(ask(query))
        milliseconds.append(1000 * (time.perf_counter() - started))
    p50, p99 = np.percentile(milliseconds, [50, 99])
    return found, {"p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3)}


def throughput(ask: Callable[[Vectors], Sequence[int]], queries: Vectors, num_clients: int) -> float:
    """Answers a second when so many threads ask."""
    started = time.perf_counter()
    with ThreadPoolExecutor(num_clients) as pool:
        list(pool.map(ask, queries))
    return round(len(queries) / (time.perf_counter() - started), 1)


def measure(ask: Callable[[Vectors], Sequence[int]], queries: Vectors, exact: Ids) -> JSON:
    """Recall, latency and throughput."""
    found, result = timed(ask, queries)
    result["recall"] = round(recall(found, exact), 4)
    for clients in (1, NUM_CLIENTS):
        result[f"qps_{clients}"] = throughput(ask, queries, clients)
    return result


def ask_store(
    store: Store, condition: Condition | None = None, *, exact: bool = False
) -> Callable[[Vectors], list[int]]:
    """One search through the service's layer, as a function of the query."""

    def ask(query: Vectors) -> list[int]:
        return [store.position(hit) for hit in store.nearest(query, K, condition, exact=exact)]

    return ask


def run_size(number: int, size: int, folder: Path, seed: int) -> JSON:
    """All measurements of one size."""
    data = Clustered(number, size, seed)
    queries = data.queries(NUM_QUERIES)
    result: JSON = {"number": number, "size": size}
    with running_store(folder / f"{number}x{size}", size) as store:
        result["load_seconds"], metadata = store.load(data, notes, seed)
        result |= store.index()
        console.print(f"{number} x {size}: {result}")
        conditions = {
            f"{name}_{round(1 / s)}": Equals(op="equals", field=f"metadata.{name}_{round(1 / s)}", value=0)
            for name in ("any", "near")
            for s in SELECTIVITIES
        }
        kept = [np.ones(number, bool), *(metadata[name] == 0 for name in conditions)]
        deleted = np.random.default_rng([seed, 9]).random(number) < 0.1
        exact, *filtered, after = exact_answers(data, queries, [*kept, ~deleted])
        result["search"] = measure(ask_store(store), queries, exact)
        result["exact"] = timed(ask_store(store, exact=True), queries[:20])[1]
        result["filtered"] = {
            name: measure(ask_store(store, condition), queries, expected)
            for (name, condition), expected in zip(conditions.items(), filtered, strict=True)
        }
        store.delete(np.flatnonzero(deleted))
        result["after_deletion"] = measure(ask_store(store), queries, after)
    console.print_json(data=result)
    result["faiss_hnsw"] = faiss_hnsw(data, queries, exact, measure)
    result["lance"] = lance(data, queries, exact, measure, folder) if number <= 100_000 else None
    console.print_json(data={name: result[name] for name in ("faiss_hnsw", "lance")})
    return result


def summary(results: list[JSON]) -> JSON:
    """The figures that matter, by name; null where they were not measured."""
    by_size = {f"{result['number']}x{result['size']}": result for result in results}

    def of(size: str, *path: str) -> Any:
        node: Any = by_size.get(size)
        for step in path:
            node = node and node.get(step)
        return node

    smallest, largest = of("10000x512", "search", "p50_ms"), of("1000000x512", "search", "p50_ms")
    ours, theirs = of("100000x512", "search", "qps_1"), of("100000x512", "faiss_hnsw", "qps_1")
    return {
        "recall_10k": of("10000x512", "search", "recall"),
        "recall_100k": of("100000x512", "search", "recall"),
        "recall_1m": of("1000000x512", "search", "recall"),
        "recall_100k_2048": of("100000x2048", "search", "recall"),
        "recall_filtered_min": min(case["recall"] for result in results for case in result["filtered"].values()),
        "recall_after_deletion_min": min(result["after_deletion"]["recall"] for result in results),
        "p99_ms_10k": of("10000x512", "search", "p99_ms"),
        "p99_ms_100k": of("100000x512", "search", "p99_ms"),
        "p99_ms_1m": of("1000000x512", "search", "p99_ms"),
        "growth_exponent": round(math.log(largest / smallest) / math.log(100), 3) if smallest and largest else None,
        "qps_over_faiss_hnsw": round(ours / theirs, 4) if ours and theirs else None,
    }


def main() -> int:
    """Run the benchmark; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help=f"all of {', '.join(FULL_SIZES)}")
    parser.add_argument("--sizes", nargs="+", metavar="NUMBERxSIZE", help="these, in place of the default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the database lies; default: a temporary folder")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    sizes = options.sizes or (FULL_SIZES if options.full else DEFAULT_SIZES)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        results = [run_size(*map(int, size.split("x")), Path(folder), options.seed) for size in sizes]
    report = {
        **summary(results),
        "device": device_name(),
        "versions": versions("numpy", "pgvector", "psycopg", "sqlalchemy"),
        "load_average": psutil.getloadavg()[0],
        "results": results,
    }
    if options.out:
        options.out.write_text(json.dumps(report, indent=1))
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
