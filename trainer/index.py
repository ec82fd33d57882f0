"""Embed the stored images that a model has no vector for: `python -m trainer.index RUN_FOLDER --job --attempt --model`.

Legend: M images of a batch, S side of the encoder's input, D size of the layer.

Unlike the other job processes it works on the database and the storage themselves. What it wrote stays when it is
killed, and the next attempt goes on with what is missing; each write is made only while the attempt is the job's own.
It passes over the images until it finds none without a vector: those that were uploaded meanwhile may lie behind it.
At its end it may switch an alias to the model, in a transaction that no upload can end beside.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select, text

from models.config import IndexRecipe
from models.embedder import Embedder
from models.preprocess import ImageLimits, to_input
from service.core import jobs, recall, vectors
from service.core.aliases import lock_switches, switch
from service.core.db import AWAY, Database
from service.core.errors import Conflict, NotFound, Unavailable
from service.core.model_files import check_files, open_variant, serving_variant
from service.core.settings import Settings, get_settings
from service.core.storage import Storage, open_storage
from service.core.tables import EmbeddingTable, Image, Model
from trainer.decoding import DecodingPool, Member, Stored
from trainer.run import AWAY as EXIT_AWAY
from trainer.run import INTERRUPTED, RunError, RunFolder

PAGE_IMAGES = 1024  # asked of the database at once
READERS = 16  # images read from storage at once
REPORT_SECONDS = 0.5


@dataclass(frozen=True)
class Attempt:
    """Who is at work: writes are made only while this is the job's current attempt, and running."""

    job_id: str
    number: int


@dataclass
class Progress:
    """What was done so far, and how fast."""

    run: RunFolder
    num_missing: int
    num_indexed: int = 0
    started_at: float = field(default_factory=time.monotonic)
    reported_at: float = 0

    def images_per_second(self) -> float:
        """The mean since the start."""
        return round(self.num_indexed / (time.monotonic() - self.started_at), 1)

    def add(self, num_images: int) -> None:
        """Count a written batch, and report at most twice a second."""
        self.num_indexed += num_images
        if time.monotonic() - self.reported_at >= REPORT_SECONDS:
            self.report()

    def report(self) -> None:
        """Tell how far the work is."""
        self.reported_at = time.monotonic()
        steps = max(1, self.num_missing, self.num_indexed)  # uploads go on meanwhile
        self.run.emit("metrics", step=self.num_indexed, steps=steps, images_per_second=self.images_per_second())


class Indexer:
    """One run: a model's layer, where the images are, and for whom it writes."""

    def __init__(self, settings: Settings, database: Database, storage: Storage, run: RunFolder) -> None:
        self._settings = settings
        self._database = database
        self._storage = storage
        self._run = run
        self._recipe = IndexRecipe.model_validate(run.spec().recipe)
        self._undecodable: set[str] = set()

    def index(self, model_id: str, attempt: Attempt) -> dict[str, Any]:
        """Write the missing vectors; the content of result.json.

        Raises Fenced, NotFound, Conflict (`corrupt_model`), Unavailable or AWAY.
        """
        with self._database.transaction() as session:
            model = session.get(Model, model_id)
            if model is None:
                raise NotFound(f"there is no model {model_id}")
            table = vectors.ensure_table(session, model, self._recipe.layer)
        with self._database.transaction() as session:  # counting takes a while, and making the table holds up uploads
            num_images = session.scalar(select(func.count()).where(Image.tenant == model.tenant)) or 0
            progress = Progress(self._run, vectors.count_missing(session, table))
        self._run.emit("stage", stage="embed", step=0, steps=max(1, progress.num_missing))
        embedder = self._open(model)

        def embed_missing() -> int:
            """Pass over the images once; how many had no vector."""
            num_before = progress.num_indexed
            for image_ids, inputs in self._batches(embedder, table):
                self._write(table, image_ids, embedder.embed(inputs, self._recipe.layer), attempt)
                progress.add(len(image_ids))
            return progress.num_indexed - num_before

        while embed_missing() and not self._recipe.promote_to:
            pass  # until none is found; before a switch uploads bring more without an end
        progress.report()
        self._build_index(table)
        promotion = self._promote(model, table, embed_missing, attempt) if self._recipe.promote_to else {}
        return {
            "num_indexed": progress.num_indexed,
            "num_images": num_images,
            "images_per_second": progress.images_per_second(),
            **promotion,
        }

    def _promote(
        self, model: Model, table: EmbeddingTable, embed_missing: Callable[[], int], attempt: Attempt
    ) -> dict[str, Any]:
        """Switch the alias to the model in a transaction in which no image is without its vector."""
        assert self._recipe.promote_to is not None
        check_files(self._storage, model)
        most = self._recipe.batch_size
        while True:
            embed_missing()
            with self._database.transaction() as session:
                lock_switches(session, model.tenant)
                num_missing = self._num_missing(table, most)
                if num_missing > most:
                    most *= 2  # many came meanwhile: uploads wait for more of them only if that goes on
                    continue
                if num_missing:
                    embed_missing()
                if jobs.orders(session, attempt.job_id, attempt.number) == jobs.Orders.CANCEL:
                    raise jobs.Fenced(f"{attempt.job_id} is to be cancelled")
                previous = switch(session, model.tenant, self._recipe.promote_to, model.id)
            return {"alias": self._recipe.promote_to, "previous_model_id": previous}

    def _num_missing(self, table: EmbeddingTable, most: int) -> int:
        """The images that have no vector, those apart that can't be decoded; counting stops beyond `most`."""
        limit = most + 1 + len(self._undecodable)
        with self._database.transaction() as session:
            missing = vectors.missing_images(session, table, "", limit)
        return len({image.id for image in missing} - self._undecodable)

    def _write(
        self, table: EmbeddingTable, image_ids: list[str], embedded: NDArray[np.float32], attempt: Attempt
    ) -> None:
        with self._database.transaction() as session:
            if jobs.orders(session, attempt.job_id, attempt.number) == jobs.Orders.CANCEL:
                raise jobs.Fenced(f"{attempt.job_id} is to be cancelled")
            vectors.insert_vectors(session, table, image_ids, embedded)

    def _open(self, model: Model) -> Embedder:
        variant = serving_variant(model, self._settings.variant)  # the one that queries are embedded by
        return open_variant(self._storage, model, variant, num_threads=self._settings.num_ort_threads)

    def _batches(self, embedder: Embedder, table: EmbeddingTable) -> Iterator[tuple[list[str], NDArray[np.uint8]]]:
        """Ids and encoder inputs (M, S, S, 3) of the images without a vector; decoding runs ahead of the encoder."""
        limits = ImageLimits(
            self._settings.max_image_bytes, self._settings.max_image_pixels, self._settings.max_image_side
        )
        image_ids, inputs = [], []
        timeout_seconds = self._settings.decode_timeout_seconds
        with DecodingPool(limits, embedder.preprocessing.storage_side, timeout_seconds=timeout_seconds) as pool:
            for image_id, outcome in pool.decode(self._members(table)):
                if not isinstance(outcome, Stored):
                    self._undecodable.add(image_id)
                    self._run.emit("warning", message=f"the image {image_id} is left out: {outcome.detail}")
                    continue
                image_ids.append(image_id)
                inputs.append(to_input(outcome.pixels, embedder.preprocessing))
                if len(image_ids) == self._recipe.batch_size:
                    yield image_ids, np.stack(inputs)
                    image_ids, inputs = [], []
        if image_ids:
            yield image_ids, np.stack(inputs)

    def _members(self, table: EmbeddingTable) -> Iterator[Member]:
        """Id and bytes of each image without a vector."""
        after = ""
        with ThreadPoolExecutor(READERS) as readers:
            while page := self._page(table, after):
                images = [image for image in page if image.id not in self._undecodable]
                for start in range(0, len(images), READERS):
                    yield from filter(None, readers.map(self._read, images[start : start + READERS]))
                after = page[-1].id

    def _page(self, table: EmbeddingTable, after: str) -> list[Image]:
        with self._database.transaction() as session:
            return vectors.missing_images(session, table, after, PAGE_IMAGES)

    def _read(self, image: Image) -> Member | None:
        try:
            return image.id, self._storage.get(image.key)
        except NotFound:  # deleted meanwhile
            return None

    def _build_index(self, table: EmbeddingTable) -> None:
        with self._database.transaction() as session:
            session.execute(text(f"analyze {vectors.table_name(table)}"))
            is_needed = vectors.needs_index(session, table)
        with self._database.transaction() as session:  # another one sees what ANALYZE counted
            is_full_of_dead = vectors.needs_compacting(session, table)
        if is_needed:
            self._run.emit("stage", stage="build the index")
            vectors.build_index(self._database.engine, table)
        elif is_full_of_dead:
            self._run.emit("stage", stage="compact the index")
            vectors.compact_index(self._database.engine, table)
        with self._database.transaction() as session:
            is_unknown = recall.needs_measuring(session, table)
        if is_unknown or is_full_of_dead:  # recall differs from build to build
            self._run.emit("stage", stage="measure the index")
            recall.measure(self._database, table)


def main(arguments: list[str]) -> int:
    """Run the job; the exit status."""
    parser = argparse.ArgumentParser(prog="trainer.index")
    parser.add_argument("run_folder", type=Path)
    parser.add_argument("--job", required=True)
    parser.add_argument("--attempt", type=int, required=True)
    parser.add_argument("--model", required=True)
    options = parser.parse_args(arguments)
    run = RunFolder(options.run_folder)
    settings = get_settings()
    with closing(Database(settings.database_url)) as database:
        try:
            indexer = Indexer(settings, database, open_storage(settings), run)
            result = indexer.index(options.model, Attempt(options.job, options.attempt))
        except jobs.Fenced as error:
            sys.stderr.write(f"{error}\n")
            return INTERRUPTED
        except AWAY as error:
            sys.stderr.write(f"{error}\n")
            return EXIT_AWAY
        except (Conflict, NotFound, Unavailable) as error:
            if error.retry_after_seconds is not None:
                sys.stderr.write(f"{error}\n")
                return EXIT_AWAY
            run.fail(RunError(error.code, error.detail))
            return 1
    run.succeed(result)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
