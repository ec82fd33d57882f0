"""Other ways to find neighbours of the same vectors: faiss' HNSW and LanceDB. None where one isn't installed."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from clustered import Clustered, Vectors
from numpy.typing import NDArray

TARGET = 0.99
Ask = Callable[[Vectors], Sequence[int]]
Measure = Callable[[Ask, Vectors, NDArray[np.int64]], dict[str, Any]]
K = 10


def faiss_hnsw(data: Clustered, queries: Vectors, exact: NDArray[np.int64], measure: Measure) -> dict[str, Any] | None:
    """HNSW with the same m and ef_construction, at the least width that finds 99 of 100."""
    try:
        import faiss  # noqa: PLC0415  # optional
    except ImportError:
        return None
    faiss.omp_set_num_threads(2)
    index = faiss.IndexHNSWFlat(data.size, 24, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 200
    started = time.perf_counter()
    for block in data.blocks():
        index.add(block / np.linalg.norm(block, axis=1, keepdims=True))
    seconds = round(time.perf_counter() - started, 1)
    faiss.omp_set_num_threads(1)  # a client is a thread of ours

    def ask(query: Vectors) -> list[int]:
        found: list[int] = index.search((query / np.linalg.norm(query))[None], K)[1][0].tolist()
        return found

    result: dict[str, Any] = {}
    for ef_search in (16, 24, 32, 48, 64, 96, 128, 192, 256, 512):
        index.hnsw.efSearch = ef_search
        result = measure(ask, queries, exact) | {"ef_search": ef_search, "build_seconds": seconds}
        if result["recall"] >= TARGET:
            break
    return result


def lance(
    data: Clustered, queries: Vectors, exact: NDArray[np.int64], measure: Measure, folder: Path
) -> dict[str, Any] | None:
    """LanceDB, an embedded store: HNSW over scalar quantised vectors in one partition, four times as many re-ranked."""
    try:
        import lancedb  # noqa: PLC0415  # optional
        from lancedb.index import HnswSq  # noqa: PLC0415
    except ImportError:
        return None
    schema = pa.schema([("id", pa.int64()), ("h", pa.list_(pa.float32(), data.size))])

    def batches() -> Iterator[pa.RecordBatch]:
        number = 0
        for block in data.blocks():
            h = pa.FixedSizeListArray.from_arrays(block.ravel(), data.size)
            yield pa.record_batch([pa.array(np.arange(number, number + len(block))), h], schema)
            number += len(block)

    started = time.perf_counter()
    table = lancedb.connect(folder / "lance").create_table("vectors", batches(), schema=schema)
    table.create_index("h", config=HnswSq(distance_type="cosine", num_partitions=1, m=24, ef_construction=200))
    seconds = round(time.perf_counter() - started, 1)

    def ask(query: Vectors) -> list[int]:
        search = table.search(query, vector_column_name="h").distance_type("cosine").ef(100).refine_factor(4)
        found: list[int] = search.limit(K).select(["id", "_distance"]).to_arrow()["id"].to_pylist()
        return found

    return measure(ask, queries, exact) | {"build_seconds": seconds}
