"""From image files to vectors: decode in killable processes, batch, compute; the time of each stage is kept.

Legend: M images, D size of a layer.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from service.batcher import Batcher
from service.core.db import Database
from service.core.errors import Invalid, ServiceError
from service.core.settings import Settings
from service.core.storage import Storage
from service.decoding import Decoded, DecodingPool
from service.model_cache import ModelCache, ServedModel


@dataclass
class Timings:
    """How long the stages of a request took; `total` from the moment this is made."""

    seconds: dict[str, float] = field(default_factory=lambda: {"queue": 0.0, "decode": 0.0, "compute": 0.0})
    started_at: float = field(default_factory=time.monotonic)

    def header(self) -> dict[str, str]:
        """The header Server-Timing, in milliseconds."""
        stages = {**self.seconds, "total": time.monotonic() - self.started_at}
        return {"Server-Timing": ", ".join(f"{name};dur={1000 * s:.1f}" for name, s in stages.items())}


class Embedding:
    """Everything between a file and its vector, for one event loop. An asynchronous context manager."""

    def __init__(self, settings: Settings, database: Database, storage: Storage) -> None:
        self.models = ModelCache(settings, database, storage)
        self.decoding = DecodingPool(settings)
        self._batcher = Batcher()

    async def __aenter__(self) -> Self:
        await self.decoding.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.decoding.close()
        self._batcher.close()

    async def decode(
        self, contents: Sequence[bytes], model: ServedModel | None, timings: Timings
    ) -> list[Decoded | ServiceError]:
        """Each file's image, as the model takes it if there is one, or why it has none."""
        started_at = time.monotonic()
        decoded = await self.decoding.decode_all(contents, model.embedder.preprocessing if model else None)
        timings.seconds["decode"] += time.monotonic() - started_at
        return decoded

    async def compute(
        self, images: Sequence[Decoded], model: ServedModel, layer: str, timings: Timings
    ) -> NDArray[np.float32]:
        """The vectors (M, D) float32 of images that were decoded for this model."""
        if not images:
            return np.empty((0, model.embedder.layers[layer]), np.float32)
        inputs = np.stack([image.input for image in images if image.input is not None])
        embedded = await self._batcher.embed(model.embedder, inputs, layer)
        timings.seconds["queue"] += embedded.queue_seconds
        timings.seconds["compute"] += embedded.compute_seconds
        return embedded.vectors

    async def embed(
        self, contents: Sequence[bytes], model: ServedModel, layer: str, timings: Timings
    ) -> NDArray[np.float32]:
        """The vectors (M, D) float32 of image files. Raises the first file's error, with those of all."""
        check_layer(model, layer)
        outcomes = await self.decode(contents, model, timings)
        errors = {i: outcome for i, outcome in enumerate(outcomes) if isinstance(outcome, ServiceError)}
        if errors:
            first = next(iter(errors.values()))
            fields = [{"field": str(i), "message": error.detail} for i, error in errors.items()]
            raise type(first)(first.detail, code=first.code, errors=fields)
        images = [outcome for outcome in outcomes if isinstance(outcome, Decoded)]
        return await self.compute(images, model, layer, timings)


def check_layer(model: ServedModel, layer: str) -> None:
    """Raise Invalid unless the model exports the layer."""
    layers = model.embedder.layers
    if layer not in layers:
        message = f"one of {', '.join(layers)}, not {layer}"
        raise Invalid(f"layer: {message}", code="unknown_layer", errors=[{"field": "layer", "message": message}])
