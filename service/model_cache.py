"""The models that serve: found by id or alias at each request, loaded once, tried before they serve."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import structlog
from sqlalchemy import select
from sqlalchemy.exc import ProgrammingError
from starlette.concurrency import run_in_threadpool

from models.embedder import Embedder
from models.variants import FILES, Variant
from service import canary
from service.admission import Work
from service.core.db import AWAY, Database
from service.core.errors import Conflict, NotFound, Unavailable
from service.core.model_files import open_variant, serving_variant
from service.core.settings import Settings
from service.core.storage import Storage
from service.core.tables import Alias, Model
from service.cores import num_lanes
from service.model_names import ModelNames, Name
from service.production import PRODUCTION
from service.scheduling import giving_way

MEMORY_FACTOR = 2  # of a loaded model over its file: ONNX Runtime keeps weights also as its kernels take them

MAX_WARMED = 4
MAX_ROWS = 1000
LOOK_UP_SECONDS = 1.5  # a database that hangs holds up no model that is in memory

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ServedModel:
    """A loaded model; it stays usable while a request holds it, also after it left the cache."""

    row: Model
    embedder: Embedder
    file: dict[str, Any]  # that is loaded, of the row's
    work: Work  # what one of its images costs at first sight

    @property
    def sha256(self) -> str:
        """Of the file that is loaded: the model, to the bit."""
        sha256: str = self.file["sha256"]
        return sha256

    @property
    def num_bytes(self) -> int:
        """Memory that it takes, roughly."""
        num_sessions = 2 if self.embedder.has_lanes else 1
        num_bytes: int = num_sessions * MEMORY_FACTOR * self.file["num_bytes"]
        return num_bytes


class ModelCache:
    """Models up to a budget of memory, the least recently used one leaves first. For one event loop."""

    def __init__(self, settings: Settings, database: Database, storage: Storage) -> None:
        self._settings = settings
        self._database = database
        self._names = ModelNames(database.engine)
        self._storage = storage
        self._loaded: OrderedDict[str, ServedModel] = OrderedDict()  # by id and the sha256 of the file that serves
        # By the alias that served it last. Weak: what leaves the cache leaves memory, however many tenants served it.
        self._last: WeakValueDictionary[Name, ServedModel] = WeakValueDictionary()
        self._rows: dict[str, tuple[str, Model]] = {}  # by id, with the version that was read
        self._loading = asyncio.Lock()
        self._next: dict[Name, asyncio.Task[Model | None]] = {}  # look-ups that haven't begun
        self._turns: WeakValueDictionary[Name, asyncio.Lock] = WeakValueDictionary()

    async def get(self, tenant: str, name: str | None = None) -> ServedModel:
        """The tenant's model with an id or alias, by default the one in production.

        While the database is away, an alias gives the model that it gave last. Raises NotFound, Conflict
        (`no_production_model`) or Unavailable (`model_damaged`, `unreadable_model`, `canary_failed`).
        """
        served = await self.find(tenant, name or PRODUCTION)
        if served:
            return served
        if name in (None, PRODUCTION):
            raise Conflict(
                "no model is in production yet: pretrain one (POST /v1/jobs), then PUT /v1/aliases/production,"
                " or name a `model`",
                code="no_production_model",
            )
        raise NotFound(f"there is no model or alias {name}")

    async def find(self, tenant: str, name: str) -> ServedModel | None:
        """The tenant's model with an id or alias, if there is one."""
        key = Name(tenant, name)
        last = self._last.get(key)
        try:
            async with asyncio.timeout(LOOK_UP_SECONDS if last else None):
                row = await self._look_up(key)
        except (*AWAY, TimeoutError):
            if last is None:
                raise
            log.warning("database_away", serving=last.row.id)
            return last
        if row is None:
            self._last.pop(key, None)
            return None
        served = await self._load(row)
        if name != row.id:
            self._last[key] = served
        return served

    async def _look_up(self, name: Name) -> Model | None:
        """The row behind a name as it is now or later: requests that come during a look-up share the next one."""
        if name not in self._next:
            self._next[name] = look_up = asyncio.create_task(self._look_up_next(name))
            look_up.add_done_callback(lambda done: done.cancelled() or done.exception())  # who waited may have gone
        return await asyncio.shield(self._next[name])

    async def _look_up_next(self, name: Name) -> Model | None:
        async with self._turns.setdefault(name, asyncio.Lock()):
            del self._next[name]  # who comes from here on may know of a switch that this one doesn't see
            return await self._resolve(name)

    async def _resolve(self, name: Name) -> Model | None:
        """The row behind a name; it is read again only when it has changed: of its JSON, most is not for serving."""
        now = await self._names.find(name)
        if now is None:
            return None
        version, row = self._rows.get(now.model_id, ("", None))
        if version != now.xmin:
            row = await run_in_threadpool(self._read, name.tenant, now.model_id)
            if row is None:
                return None
            if len(self._rows) >= MAX_ROWS:  # those of deleted models among them
                self._rows.clear()
            self._rows[now.model_id] = (now.xmin, row)
        return row

    def _read(self, tenant: str, model_id: str) -> Model | None:
        with self._database.of(tenant).transaction() as session:
            return session.get(Model, model_id)

    async def warm_production(self) -> None:
        """Have the newest models in production loaded before the first request; without one, or a database, go on."""
        try:
            for tenant in await run_in_threadpool(self._newest_tenants):
                await self.find(tenant, PRODUCTION)
        except (Unavailable, ProgrammingError, *AWAY) as error:  # a table may be missing still
            log.warning("production_not_loaded", error=str(error))

    def _newest_tenants(self) -> Sequence[str]:
        newest = select(Alias.tenant).where(Alias.name == PRODUCTION).order_by(Alias.updated_at.desc())
        with self._database.transaction() as session:
            return session.scalars(newest.limit(MAX_WARMED)).all()

    async def close(self) -> None:
        """Close the connection for look-ups."""
        await self._names.close()

    async def preload(self, tenant: str, model_id: str) -> None:
        """Have a model loaded, so that a switch to it keeps nobody waiting.

        Raises Conflict (`unreadable_model`, `canary_failed`).
        """
        try:
            await self.get(tenant, model_id)
        except Unavailable as error:
            raise Conflict(error.detail, code=error.code) from error

    async def _load(self, row: Model) -> ServedModel:
        variant = serving_variant(row, self._settings.variant)
        key = f"{row.id} {row.files[FILES[variant]]['sha256']}"  # an export job may have made its files anew
        if key not in self._loaded:
            async with self._loading:  # the second to ask finds it loaded
                if key not in self._loaded:
                    self._loaded[key] = await run_in_threadpool(self._open, row, variant)
        self._loaded.move_to_end(key)
        served = self._loaded[key]
        max_bytes = self._settings.model_cache_bytes
        while len(self._loaded) > 1 and sum(model.num_bytes for model in self._loaded.values()) > max_bytes:
            self._loaded.popitem(last=False)
        return served

    def _open(self, row: Model, variant: Variant) -> ServedModel:
        with giving_way():  # ONNX Runtime starts its threads
            has_lanes = num_lanes(self._settings) > 1
            embedder = open_variant(
                self._storage, row, variant, num_threads=self._settings.num_ort_threads, has_lanes=has_lanes
            )
        try:
            seconds = canary.check(embedder)
        except canary.CanaryFailed as error:
            raise Unavailable(f"the model {row.id} does not serve: {error}", code="canary_failed") from error
        return ServedModel(row, embedder, row.files[FILES[variant]], Work(row.id, seconds))
