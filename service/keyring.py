"""The keys that requests carry, looked up in the database and remembered for some seconds.

A key that is revoked is refused at once by the process that revoked it, and by others when they look again: after
FRESH_SECONDS, MAX_AGE_SECONDS at the latest. While the database is away, a key that was seen within AWAY_SECONDS goes
on for what can do without a database.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from starlette.concurrency import run_in_threadpool

from service.caller import Caller
from service.core.db import AWAY, Database
from service.core.errors import Unauthenticated, Unavailable
from service.core.keys import SECRET_PATTERN, digest_of, find_key
from service.core.quotas import Limits
from service.core.settings import Settings
from service.core.tables import ApiKey

FRESH_SECONDS = 5
MAX_AGE_SECONDS = 10  # of what others go on with while one request looks again
AWAY_SECONDS = 600
RETRY_SECONDS = 1  # the least time between two looks at a database that is away
RETRY_AFTER_SECONDS = 2

log = structlog.get_logger(__name__)


class Refused(Unauthenticated):
    """A key that is known but not valid; whose it is, is for the audit log."""

    def __init__(self, detail: str, caller: Caller) -> None:
        super().__init__(detail)
        self.caller = caller


@dataclass
class _Entry:
    key: ApiKey
    caller: Caller
    seen_at: float
    is_being_refreshed: bool = False

    @property
    def age_seconds(self) -> float:
        return time.monotonic() - self.seen_at


class Keyring:
    """The keys of a process, for one event loop. What strangers send leaves nothing here."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._entries: dict[str, _Entry] = {}  # by digest
        self._num_revoked = 0
        self._retry_at = 0.0

    async def caller(self, secret: str, *, needs_database: bool) -> Caller:
        """Whose key this is. Raises Unauthenticated, or Unavailable while the database is away."""
        if not SECRET_PATTERN.fullmatch(secret):
            raise Unauthenticated("this is no key: one is sk_ and 43 characters")
        digest = digest_of(secret)
        entry = self._entries.get(digest)
        if entry is None or not self._is_fresh(entry):
            entry = await self._look_again(digest, entry, needs_database=needs_database)
        return _valid(entry)

    def forget(self, key_id: str) -> None:
        """Look a key up again before its next request; what is being looked up now is too old already."""
        self._num_revoked += 1
        self._entries = {digest: entry for digest, entry in self._entries.items() if entry.key.id != key_id}

    @staticmethod
    def _is_fresh(entry: _Entry) -> bool:
        return entry.age_seconds < (MAX_AGE_SECONDS if entry.is_being_refreshed else FRESH_SECONDS)

    async def _look_again(self, digest: str, known: _Entry | None, *, needs_database: bool) -> _Entry:
        if known is not None:
            known.is_being_refreshed = True
        try:
            if time.monotonic() >= self._retry_at:
                return await self._look_up(digest)
        except AWAY as error:
            self._retry_at = time.monotonic() + RETRY_SECONDS
            log.warning("database_away", error=str(error))
        finally:
            if known is not None:
                known.is_being_refreshed = False
        if known is None or needs_database or known.age_seconds > AWAY_SECONDS:
            detail = (
                f"the database does not answer, so no key can be checked; try again in {RETRY_AFTER_SECONDS} seconds"
            )
            raise Unavailable(detail, retry_after_seconds=RETRY_AFTER_SECONDS)
        return known

    async def _look_up(self, digest: str) -> _Entry:
        """Raises Unauthenticated, or AWAY."""
        num_revoked = self._num_revoked
        key = await run_in_threadpool(self._find, digest)
        if key is None:
            self._entries.pop(digest, None)
            raise Unauthenticated("no such key; `simclr keys create` makes one")
        limits = Limits.model_validate(key.limits).over(self._settings)
        entry = _Entry(key, Caller(key.tenant, key.id, frozenset(key.scopes), limits), time.monotonic())
        if num_revoked == self._num_revoked:
            self._entries[digest] = entry
        return entry

    def _find(self, digest: str) -> ApiKey | None:
        with self._database.transaction() as session:
            return find_key(session, digest)


def _valid(entry: _Entry) -> Caller:
    """Raises Refused for a key that was revoked or has expired."""
    key = entry.key
    if key.revoked_at is not None:
        raise Refused(f"the key {key.id} was revoked at {key.revoked_at:%Y-%m-%d %H:%M} UTC; use another", entry.caller)
    if key.expires_at is not None and key.expires_at <= datetime.now(UTC):
        raise Refused(f"the key {key.id} expired at {key.expires_at:%Y-%m-%d %H:%M} UTC; use another", entry.caller)
    return entry.caller
