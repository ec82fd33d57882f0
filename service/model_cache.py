"""The models that serve: found by id or alias at each request, loaded once, checked before they are."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from models.embedder import Embedder
from models.variants import FILES, Variant
from service.core.db import AWAY, Database
from service.core.errors import Conflict, NotFound
from service.core.model_files import fetch_onnx, serving_variant
from service.core.settings import Settings
from service.core.storage import Storage
from service.core.tables import Alias, Model
from service.production import PRODUCTION

MAX_LOADED = 3

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ServedModel:
    """A loaded model; it stays usable while a request holds it, also after it left the cache."""

    row: Model
    embedder: Embedder


class ModelCache:
    """At most MAX_LOADED models, the least recently used one leaves first. For one event loop."""

    def __init__(self, settings: Settings, database: Database, storage: Storage) -> None:
        self._settings = settings
        self._database = database
        self._storage = storage
        self._loaded: OrderedDict[str, ServedModel] = OrderedDict()  # by id and the sha256 of the file that serves
        self._last: dict[str, ServedModel] = {}  # by the alias that served it last
        self._loading = asyncio.Lock()

    async def get(self, name: str | None = None) -> ServedModel:
        """The model with an id or alias, by default the one in production.

        While the database is away, an alias gives the model that it gave last. Raises NotFound, Conflict
        (`no_production_model`) or Unavailable (`model_damaged`).
        """
        served = await self.find(name or PRODUCTION)
        if served:
            return served
        if name in (None, PRODUCTION):
            raise Conflict(
                "no model is in production yet: pretrain one (POST /v1/jobs), then PUT /v1/aliases/production,"
                " or name a `model`",
                code="no_production_model",
            )
        raise NotFound(f"there is no model or alias {name}")

    async def find(self, name: str) -> ServedModel | None:
        """The model with an id or alias, if there is one."""
        try:
            row = await run_in_threadpool(self._resolve, name)
        except AWAY:
            if name not in self._last:
                raise
            log.warning("database_away", serving=self._last[name].row.id)
            return self._last[name]
        if row is None:
            self._last.pop(name, None)
            return None
        served = await self._load(row)
        if name != row.id:
            self._last[name] = served
        return served

    def _resolve(self, name: str) -> Model | None:
        with self._database.transaction() as session:
            of_alias = select(Alias.model_id).where(Alias.name == name)
            return session.scalars(select(Model).where((Model.id == name) | Model.id.in_(of_alias))).first()

    async def _load(self, row: Model) -> ServedModel:
        variant = serving_variant(row, self._settings.variant)
        key = f"{row.id} {row.files[FILES[variant]]['sha256']}"  # an export job may have made its files anew
        if key not in self._loaded:
            async with self._loading:  # the second to ask finds it loaded
                if key not in self._loaded:
                    self._loaded[key] = ServedModel(row, await run_in_threadpool(self._open, row, variant))
        self._loaded.move_to_end(key)
        served = self._loaded[key]
        while len(self._loaded) > MAX_LOADED:
            self._loaded.popitem(last=False)
        return served

    def _open(self, row: Model, variant: Variant) -> Embedder:
        with TemporaryDirectory() as folder:
            path = fetch_onnx(self._storage, row, variant, Path(folder))
            return Embedder(path, num_threads=self._settings.num_ort_threads)
