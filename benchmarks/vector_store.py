"""The service's own store of vectors, filled without images: rows by COPY, index and search by the service's code."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from clustered import Clustered, Vectors
from numpy.typing import NDArray
from sqlalchemy import text

from service.core import recall, vectors
from service.core.db import Database
from service.core.exact_search import Hit
from service.core.filters import Condition
from service.core.ids import new_id
from service.core.nearest import nearest
from service.core.schema import migrate
from service.core.tables import Collection, EmbeddingTable, Model
from service.embedded.postgres import EmbeddedPostgres

Notes = Callable[[NDArray[np.float64], np.random.Generator], list[dict[str, int]]]


class Store:
    """One collection and one table of vectors."""

    def __init__(self, database: Database, server: EmbeddedPostgres, size: int) -> None:
        self._database = database
        self._server = server
        model = {"recipe": {}, "preprocessing": {}, "files": {}, "parity_cosine": 1.0, "probes": {}}
        with database.transaction() as session:
            row = Model(id=new_id("mdl"), layers={"h": size}, **model)
            session.add(row)
            session.flush()
            self.table = vectors.ensure_table(session, row, "h")
            collection = Collection(id=new_id("col"), name="benchmark")
            session.add(collection)
            session.flush()
            self.collection_id = collection.id
        self._positions: dict[str, int] = {}

    def load(self, data: Clustered, notes: Notes, seed: int) -> tuple[float, dict[str, NDArray[np.int64]]]:
        """Store all vectors with their notes; the seconds it took, and the notes by name."""
        started = time.perf_counter()
        columns: dict[str, list[int]] = {}
        for i, block in enumerate(data.blocks()):
            said = notes(data.ranks(block), np.random.default_rng([seed, 4, i]))
            ids = [image_id(len(self._positions) + j) for j in range(len(block))]
            self._positions.update({id_: len(self._positions) + j for j, id_ in enumerate(ids)})
            self._copy(ids, said, block)
            for note in said:
                for name, value in note.items():
                    columns.setdefault(name, []).append(value)
        with self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("vacuum analyze"))  # as autovacuum does within a minute
        return round(time.perf_counter() - started, 1), {name: np.array(values) for name, values in columns.items()}

    def _copy(self, ids: Sequence[str], said: Sequence[dict[str, int]], block: Vectors) -> None:
        with self._database.transaction() as session:
            cursor = session.connection().connection.cursor()
            rows: list[tuple[str, list[tuple[Any, ...]]]] = [
                ("image (id, key, format, width, height, num_bytes)", [(id_, id_, "png", 8, 8, 1) for id_ in ids]),
                (
                    "collection_image (collection_id, image_id, label, metadata, filename)",
                    [
                        (self.collection_id, id_, None, json.dumps(note), None)
                        for id_, note in zip(ids, said, strict=True)
                    ],
                ),
                (f"{vectors.table_name(self.table)} (image_id, h)", list(zip(ids, block, strict=True))),
            ]
            for target, values in rows:
                with cursor.copy(f"copy {target} from stdin") as copy:
                    for row in values:
                        copy.write_row(row)

    def index(self) -> dict[str, Any]:
        """Build the index and measure its recall, as the job does; sizes in bytes."""
        started = time.perf_counter()
        vectors.build_index(self._database.engine, self.table)
        built = time.perf_counter()
        measured = recall.measure(self._database, self.table)
        result: dict[str, Any] = {
            "build_seconds": round(built - started, 1),
            "measure_seconds": round(time.perf_counter() - built, 1),
            "ef_search": measured.ef_search,
            "measured_recall": measured.recall,
            "server_bytes": self._server_bytes(),
        }
        with self._database.transaction() as session:
            self.table = session.get_one(EmbeddingTable, self.table.number)
            name = vectors.table_name(self.table)
            for key, size in (
                ("index_bytes", "pg_relation_size(:name || '_hnsw')"),
                ("disk_bytes", "pg_total_relation_size(:name)"),
            ):
                result[key] = session.scalar(text(f"select {size}"), {"name": name})  # of the two above
        return result

    def _server_bytes(self) -> int:
        """Memory of the server's processes, what they share counted once."""
        parent = psutil.Process(int((self._server.data / "postmaster.pid").read_text().split()[0]))
        return sum(process.memory_full_info().pss for process in [parent, *parent.children(recursive=True)])

    def nearest(self, query: Vectors, k: int, condition: Condition | None, *, exact: bool) -> list[Hit]:
        """One search, in a transaction of its own."""
        with self._database.transaction() as session:
            (hits,) = nearest(
                session,
                self.table,
                query[None],
                collection_id=self.collection_id,
                k=k,
                condition=condition,
                exact=exact,
            )
        return hits

    def position(self, hit: Hit) -> int:
        """The number of a vector found."""
        return self._positions[hit.image_id]

    def delete(self, positions: NDArray[np.int64]) -> None:
        """Delete images, with their vectors."""
        ids = [image_id(int(i)) for i in positions]
        with self._database.transaction() as session:
            session.execute(text("delete from image where id = any(:ids)"), {"ids": ids})


def image_id(position: int) -> str:
    """An id as images have it."""
    return hashlib.sha256(position.to_bytes(8, "big")).hexdigest()


@contextmanager
def running_store(folder: Path, size: int) -> Iterator[Store]:
    """A store on a server of its own."""
    folder.mkdir(parents=True)
    server = EmbeddedPostgres(folder / "postgres", folder / "postgres.log")
    url = server.start()
    try:
        migrate(url)
        with closing(Database(url)) as database:
            yield Store(database, server, size)
    finally:
        server.stop()
