"""Similar images: queries become unit vectors of the model's h, and the database finds their neighbours.

Legend: D size of h.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from service.collections import find_collection
from service.core import tracing, vectors
from service.core.errors import Conflict, Invalid, NotFound
from service.core.exact_search import Hit
from service.core.nearest import nearest
from service.core.tables import Image
from service.deps import Services
from service.embedding import Timings
from service.image_store import LAYER
from service.model_cache import ServedModel
from service.neighbors import by_label, describe
from service.schemas.search import Groups, Neighbors, Query, SearchOptions, SearchRequest

MAX_GROUPED = 20_000  # images looked through for groups
CHUNK_IMAGES = 32  # files read before they are embedded: a batch may ask by a thousand images


@dataclass(frozen=True)
class Question:
    """A unit vector (D,) float32, and the images that are no answer to it."""

    vector: NDArray[np.float32]
    excluded: Collection[str] = frozenset()


class Searcher:
    """Answers searches with one model."""

    def __init__(self, services: Services, model: ServedModel, timings: Timings) -> None:
        self._services = services
        self._model = model
        self._timings = timings

    async def questions(self, request: SearchRequest) -> list[Question]:
        """What a request asks: one question, or one for each of its queries. Raises NotFound or Invalid."""
        if request.positive is not None:
            return [await self._by_examples(request.positive, request.negative, exclude_self=request.exclude_self)]
        queries = request.queries or [Query(image_id=request.image_id, vector=request.vector)]
        stored = await self.vectors_of({query.image_id for query in queries if query.image_id is not None})
        questions = []
        for query in queries:
            if query.image_id is not None:
                excluded = {query.image_id} if request.exclude_self else set()
                questions.append(Question(direction(stored[query.image_id]), excluded))
            else:
                questions.append(self._by_vector(query.vector or []))
        return questions

    async def by_image(self, image_id: str) -> Question:
        """What is like a stored image, itself left out. Raises NotFound."""
        stored = await self.vectors_of({image_id})
        return Question(direction(stored[image_id]), {image_id})

    async def by_file(self, content: bytes) -> Question:
        """What is like an image that is not stored. Raises Undecodable or TooLarge."""
        computed = await self._services.embedding.embed([content], self._model, LAYER, self._timings)
        return Question(direction(computed[0]))

    def _by_vector(self, vector: list[float]) -> Question:
        size = self._model.embedder.layers[LAYER]
        if len(vector) != size:
            message = f"{size} numbers, the size of this model's {LAYER}, not {len(vector)}"
            errors = [{"field": "vector", "message": message}]
            raise Invalid(f"vector: {message}", code="wrong_vector_size", errors=errors)
        return Question(direction(vector))

    async def _by_examples(self, positive: list[str], negative: list[str], *, exclude_self: bool) -> Question:
        """The mean direction of the positives, moved on by its difference from that of the negatives."""
        stored = await self.vectors_of({*positive, *negative})
        toward = np.mean([direction(stored[image_id]) for image_id in positive], axis=0)
        if negative:
            toward = 2 * toward - np.mean([direction(stored[image_id]) for image_id in negative], axis=0)
        return Question(direction(toward), {*positive, *negative} if exclude_self else set())

    async def vectors_of(self, image_ids: Collection[str]) -> dict[str, NDArray[np.float32]]:
        """The vectors (D,) of stored images, computed for those that have none of this model. Raises NotFound."""
        found, keys = await run_in_threadpool(self._stored, image_ids)
        missing = list(keys)
        for start in range(0, len(missing), CHUNK_IMAGES):
            chunk = missing[start : start + CHUNK_IMAGES]
            contents = [await run_in_threadpool(self._services.storage.get, keys[image_id]) for image_id in chunk]
            computed = await self._services.embedding.embed(contents, self._model, LAYER, self._timings)
            found.update(zip(chunk, computed, strict=True))
        return found

    def _stored(self, image_ids: Collection[str]) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
        """Stored vectors by image id, and the blobs of the images that have none."""
        with self._services.database.transaction() as session:
            rows = session.execute(select(Image.id, Image.key).where(Image.id.in_(image_ids)))
            keys = {row.id: row.key for row in rows}
            if unknown := sorted(set(image_ids) - set(keys)):
                raise NotFound(f"there is no image {', '.join(unknown[:5])}")
            table = vectors.find_table(session, self._model.row.id, LAYER)
            found = vectors.stored_vectors(session, table, image_ids) if table else {}
        return found, {image_id: key for image_id, key in keys.items() if image_id not in found}

    async def answer(self, questions: Sequence[Question], options: SearchOptions) -> list[Neighbors]:
        """The neighbours for each question, all in one transaction."""
        with tracing.span("search", queries=len(questions), k=options.k, exact=options.exact):
            return await run_in_threadpool(self._answer, questions, options)

    async def answer_in_groups(self, question: Question, options: SearchOptions) -> Groups:
        """The labels nearest to a question, with their images."""
        with tracing.span("search", queries=1, k=options.k, exact=options.exact, grouped=True):
            return await run_in_threadpool(self._answer_in_groups, question, options)

    def _answer(self, questions: Sequence[Question], options: SearchOptions) -> list[Neighbors]:
        with self._services.database.transaction() as session:
            found = self._find(session, questions, options, options.k)
            described = describe(session, find_collection(session, options.collection).id, found)
        return [Neighbors(model=self._model.row.id, items=items) for items in described]

    def _answer_in_groups(self, question: Question, options: SearchOptions) -> Groups:
        """Asks for more and more images until there are enough of enough labels, or no more images."""
        with self._services.database.transaction() as session:
            collection_id = find_collection(session, options.collection).id
            number = 4 * options.k * options.group_size
            while True:
                (hits,) = self._find(session, [question], options, number)
                (items,) = describe(session, collection_id, [hits])
                groups = by_label(items, options.k, options.group_size)
                is_full = len(groups) == options.k and all(len(g.items) == options.group_size for g in groups)
                if is_full or len(hits) < number or number >= MAX_GROUPED:
                    return Groups(model=self._model.row.id, groups=groups)
                number = min(4 * number, MAX_GROUPED)

    def _find(self, session: Session, questions: Sequence[Question], options: SearchOptions, k: int) -> list[list[Hit]]:
        """The k best hits for each question, without the images that are no answer to it."""
        table = vectors.find_table(session, self._model.row.id, LAYER)
        collection_id = find_collection(session, options.collection).id
        if table is None:
            raise Conflict(
                f"no image has a vector of the model {self._model.row.id} yet; run a job of the kind `index`",
                code="not_indexed",
            )
        found = nearest(
            session,
            table,
            np.stack([question.vector for question in questions]),
            collection_id=collection_id,
            k=k + max(len(question.excluded) for question in questions),
            condition=options.filter,
            min_score=options.min_score,
            exact=options.exact,
        )
        return [
            [hit for hit in hits if hit.image_id not in question.excluded][:k]
            for hits, question in zip(found, questions, strict=True)
        ]


def direction(vector: ArrayLike) -> NDArray[np.float32]:
    """The unit vector, whatever the scale. Raises Invalid for zeros."""
    values = np.asarray(vector, np.float64)
    largest = np.abs(values).max()
    if largest == 0:
        raise Invalid("the query's vector is all zeros: it has no direction to search in", code="zero_vector")
    scaled = values / largest  # its square can't overflow
    unit: NDArray[np.float32] = (scaled / np.linalg.norm(scaled)).astype(np.float32)
    return unit
