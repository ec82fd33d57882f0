"""From image files to vectors: decode in killable processes, batch, compute; the time of each stage is kept.

Legend: M images, D size of a layer.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool

from service.admission import DECODING, Admission, Ticket
from service.batcher import Batcher
from service.core import tracing
from service.core.db import Database
from service.core.errors import Invalid, ServiceError, Undecodable
from service.core.settings import Settings
from service.core.storage import Storage
from service.cores import Cores, num_cores, num_lanes
from service.decoding import Decoded, DecodingPool
from service.instruments import IMAGES, STAGE_SECONDS
from service.model_cache import ModelCache, ServedModel
from service.result_cache import Key, ResultCache, key_of
from service.together import together

STAGES = ("turn", "decode", "queue", "compute")  # of an image, one after the other
INLINE_BYTES = 512 * 1024  # are hashed in 0.3 ms: a thread would take as long to get its turn

Vector = NDArray[np.float32]  # (D,)


@dataclass
class Timings:
    """How long the stages of a request took, of its images the longest; `total` from the moment this is made."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    num_cached: int = 0
    num_in_batch: int = 0  # of the largest batch
    started_at: float = field(default_factory=time.monotonic)

    def header(self) -> dict[str, str]:
        """The headers Server-Timing, in milliseconds, and X-Cache-Hits, images whose vectors were known."""
        stages = {**self.seconds, "total": time.monotonic() - self.started_at}
        parts = ", ".join(f"{name};dur={1000 * s:.1f}" for name, s in stages.items())
        return {"Server-Timing": parts, "X-Cache-Hits": str(self.num_cached)}

    def add_longest(self, parts: Sequence["Timings"]) -> None:
        """Add stages that passed at the same time."""
        for name in self.seconds:
            self.seconds[name] += max((part.seconds[name] for part in parts), default=0.0)

    def trace(self) -> None:
        """Make spans of the stages of one image, the last of which has just ended."""
        turn, decode, queue, compute = (self.seconds[name] for name in STAGES)
        tracing.passed("turn", turn, seconds_ago=decode + queue + compute)
        tracing.passed("decode", decode, seconds_ago=queue + compute)
        tracing.passed("queue", queue, seconds_ago=compute)
        tracing.passed("compute", compute, images_in_batch=self.num_in_batch)


class Embedding:
    """Everything between a file and its vector, for one event loop. An asynchronous context manager."""

    def __init__(self, settings: Settings, database: Database, storage: Storage) -> None:
        self.models = ModelCache(settings, database, storage)
        self.decoding = DecodingPool(settings)
        self.admission = Admission(settings)
        self._cache = ResultCache(settings.result_cache_bytes)
        self._cores = Cores(num_cores(settings), settings.num_decoders)
        self._batcher = Batcher(self._cores, num_lanes(settings))

    async def __aenter__(self) -> Self:
        await self.decoding.start()
        await self.models.warm_production()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.decoding.close()
        self._batcher.close()
        await self.models.close()

    @contextmanager
    def admitted(self, contents: Sequence[bytes], model: ServedModel | None) -> Iterator[Ticket]:
        """Room for these files, for `decode` and `compute` in the block. Raises Busy or TooLarge."""
        with self.admission.admit(model.work if model else DECODING, contents) as ticket:
            yield ticket

    async def decode(
        self, contents: Sequence[bytes], model: ServedModel | None, timings: Timings
    ) -> list[Decoded | ServiceError]:
        """Each file's image, as the model takes it if there is one, or why it has none."""
        entered_at = time.monotonic()
        async with self._cores.decoding() if model else nullcontext():
            started_at = time.monotonic()
            decoded = await self.decoding.decode_all(contents, model.embedder.preprocessing if model else None)
        decode_seconds = time.monotonic() - started_at
        for stage, seconds in (("turn", started_at - entered_at), ("decode", decode_seconds)):
            timings.seconds[stage] += seconds
            STAGE_SECONDS.observe(seconds, stage)
        return decoded

    async def compute(
        self, images: Sequence[Decoded], model: ServedModel, layer: str, timings: Timings
    ) -> NDArray[np.float32]:
        """The vectors (M, D) float32 of images that were decoded for this model."""
        if not images:
            return np.empty((0, model.embedder.layers[layer]), np.float32)
        inputs = [image.input for image in images if image.input is not None]
        embedded = await self._batcher.embed(model.embedder, inputs, layer)
        timings.seconds["queue"] += embedded.queue_seconds
        timings.seconds["compute"] += embedded.compute_seconds
        timings.num_in_batch = max(timings.num_in_batch, embedded.num_in_batch)
        return embedded.vectors

    async def embed(
        self, contents: Sequence[bytes], model: ServedModel, layer: str, timings: Timings
    ) -> NDArray[np.float32]:
        """The vectors (M, D) float32 of image files. Raises the first file's error, with those of all."""
        outcomes = await self.embed_each(contents, model, layer, timings)
        raise_errors(outcomes)
        return np.stack([outcome for outcome in outcomes if not isinstance(outcome, ServiceError)])

    async def embed_each(
        self, contents: Sequence[bytes], model: ServedModel, layer: str, timings: Timings
    ) -> list[Vector | ServiceError]:
        """The vector (D,) float32 of each image file, or why it has none. Raises Busy, TooLarge or Invalid.

        What is known is not computed again. The others go on their own, so that one is computed while the next is
        decoded.
        """
        check_layer(model, layer)
        keys = await self._keys(contents, model, layer)
        outcomes: list[Vector | ServiceError | None] = [self._cache.get(key) for key in keys]
        missing = [i for i, outcome in enumerate(outcomes) if outcome is None]
        timings.num_cached += len(contents) - len(missing)
        IMAGES.add(len(contents) - len(missing), "cache")
        parts = [Timings() for _ in missing]
        traced = tracing.span("embed", images=len(contents), images_cached=len(contents) - len(missing))
        with traced, self.admitted([contents[i] for i in missing], model) as ticket:
            work = [
                self._one(contents[i], keys[i], model, ticket, part) for i, part in zip(missing, parts, strict=True)
            ]
            for i, outcome in zip(missing, await together(work), strict=True):
                outcomes[i] = outcome
            IMAGES.add(len(missing), "model")
            if parts:  # they pass side by side: those of the one that took longest tell of all
                max(parts, key=lambda part: sum(part.seconds.values())).trace()
        timings.add_longest(parts)
        return [outcome for outcome in outcomes if outcome is not None]

    async def _keys(self, contents: Sequence[bytes], model: ServedModel, layer: str) -> list[Key]:
        def make() -> list[Key]:
            return [key_of(content, model.sha256, layer) for content in contents]

        return make() if sum(map(len, contents)) <= INLINE_BYTES else await run_in_threadpool(make)

    async def _one(
        self, content: bytes, key: Key, model: ServedModel, ticket: Ticket, timings: Timings
    ) -> Vector | ServiceError:
        (decoded,) = await self.decode([content], model, timings)
        if isinstance(decoded, ServiceError):
            ticket.finish(is_sample=False)
            return decoded
        _, _, layer, _ = key
        vector: Vector = (await self.compute([decoded], model, layer, timings))[0]
        ticket.finish(is_sample=True)
        if not np.isfinite(vector).all():
            return Undecodable("the model has no finite vector for it", code="not_finite")
        self._cache.put(key, vector)
        return vector


def raise_errors(outcomes: Sequence[Vector | ServiceError]) -> None:
    """Raise the first of the errors, with the position and the reason of each, if there is one."""
    errors = {i: outcome for i, outcome in enumerate(outcomes) if isinstance(outcome, ServiceError)}
    if errors:
        first = next(iter(errors.values()))
        fields = [{"field": str(i), "message": error.detail} for i, error in errors.items()]
        raise type(first)(first.detail, code=first.code, errors=fields)


def check_layer(model: ServedModel, layer: str) -> None:
    """Raise Invalid unless the model exports the layer."""
    layers = model.embedder.layers
    if layer not in layers:
        message = f"one of {', '.join(layers)}, not {layer}"
        raise Invalid(f"layer: {message}", code="unknown_layer", errors=[{"field": "layer", "message": message}])
