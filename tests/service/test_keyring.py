"""Keys that a process remembers."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from sqlalchemy import update

from service import keyring as module
from service.core.db import Database
from service.core.errors import Unauthenticated, Unavailable
from service.core.keys import NewKey, create_key, revoke_key
from service.core.settings import Settings
from service.core.tables import ApiKey
from service.keyring import FRESH_SECONDS, Keyring, Refused


class Clock:
    """time.monotonic, moved by hand."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def key(database: Database) -> NewKey:
    with database.of("ours").transaction() as session:
        return create_key(session, tenant="ours", name="ci", scopes=["read"])


@pytest.fixture
def keyring(postgres_url: str, tmp_path: Path) -> Iterator[Keyring]:
    database = Database(postgres_url)
    yield Keyring(Settings(data_dir=tmp_path, quota_jobs=3), database)
    database.close()


def away(keyring: Keyring) -> Callable[[], None]:
    """Have the keyring's database not answer, until it is called."""
    database, keyring._database = keyring._database, Database("postgresql://x@127.0.0.1:9/x")
    return lambda: setattr(keyring, "_database", database)


def test_a_key_is_its_tenant_scopes_and_limits(keyring: Keyring, key: NewKey) -> None:
    """With the service's limits where the key has none."""
    caller = asyncio.run(keyring.caller(key.secret, needs_database=True))
    assert (caller.tenant, caller.key_id, caller.limits.jobs) == ("ours", key.row.id, 3)
    assert (caller.may("read"), caller.may("write"), caller.may("admin")) == (True, False, False)


@pytest.mark.parametrize("secret", ["", "sk_", "x" * 46, "sk_" + "ä" * 43, "sk_" + "a" * 44, "sk_" + "a" * 43])
def test_what_is_no_key(keyring: Keyring, secret: str) -> None:
    """Strangers leave nothing in memory."""
    with pytest.raises(Unauthenticated, match=r"no key|no such key"):
        asyncio.run(keyring.caller(secret, needs_database=True))
    assert keyring._entries == {}


def test_a_revocation_elsewhere_is_seen_within_the_bound(
    keyring: Keyring, key: NewKey, database: Database, clock: Clock
) -> None:
    """The key works while it is fresh, and is refused, by name, when it is looked up again."""
    asyncio.run(keyring.caller(key.secret, needs_database=True))
    with database.of("ours").transaction() as session:
        revoke_key(session, key.row.id)
    clock.now += FRESH_SECONDS - 0.01
    asyncio.run(keyring.caller(key.secret, needs_database=True))
    clock.now += 0.02
    with pytest.raises(Refused, match=f"{key.row.id} was revoked") as caught:
        asyncio.run(keyring.caller(key.secret, needs_database=True))
    assert caught.value.caller.tenant == "ours"


def test_a_key_that_is_forgotten_is_looked_up_at_once(keyring: Keyring, key: NewKey, database: Database) -> None:
    """The process that revokes a key refuses it from then on."""
    asyncio.run(keyring.caller(key.secret, needs_database=True))
    with database.of("ours").transaction() as session:
        revoke_key(session, key.row.id)
    keyring.forget(key.row.id)
    with pytest.raises(Refused):
        asyncio.run(keyring.caller(key.secret, needs_database=True))


def test_what_was_looked_up_before_a_revocation_is_not_kept(
    keyring: Keyring, key: NewKey, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look that began before it and ends after it would else be believed for seconds."""
    find = keyring._find

    def find_then_revoke(digest: str) -> ApiKey | None:
        found = find(digest)
        with database.of("ours").transaction() as session:
            revoke_key(session, key.row.id)
        keyring.forget(key.row.id)
        return found

    keyring.forget("key_of_before")
    monkeypatch.setattr(keyring, "_find", find_then_revoke)
    asyncio.run(keyring.caller(key.secret, needs_database=True))
    with pytest.raises(Refused):
        asyncio.run(keyring.caller(key.secret, needs_database=True))


def test_a_remembered_key_expires_on_time(keyring: Keyring, key: NewKey, database: Database) -> None:
    """What is remembered has its expiry with it."""
    with database.of("ours").transaction() as session:
        session.execute(update(ApiKey).values(expires_at=datetime.now(UTC) + timedelta(hours=1)))
    asyncio.run(keyring.caller(key.secret, needs_database=True))
    (entry,) = keyring._entries.values()
    entry.key.expires_at = datetime.now(UTC)
    with pytest.raises(Refused, match="expired"):
        asyncio.run(keyring.caller(key.secret, needs_database=True))


def test_without_a_database_a_key_goes_on_for_what_needs_none(
    keyring: Keyring, key: NewKey, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything else, and a key that was not seen lately, is told to come again; then the database is looked at."""
    log = structlog.testing.CapturingLogger()
    monkeypatch.setattr(module, "log", log)
    asyncio.run(keyring.caller(key.secret, needs_database=True))
    come_back = away(keyring)
    clock.now += FRESH_SECONDS
    caller = asyncio.run(keyring.caller(key.secret, needs_database=False))
    assert caller.tenant == "ours"
    (call,) = log.calls
    assert (call.method_name, call.args) == ("warning", ("database_away",))
    assert "connection" in call.kwargs["error"]
    for secret, needs_database in ((key.secret, True), ("sk_" + "a" * 43, False)):
        with pytest.raises(Unavailable) as caught:
            asyncio.run(keyring.caller(secret, needs_database=needs_database))
        assert f"in {caught.value.retry_after_seconds} seconds" in caught.value.detail
    clock.now += module.AWAY_SECONDS
    with pytest.raises(Unavailable):
        asyncio.run(keyring.caller(key.secret, needs_database=False))
    come_back()
    with pytest.raises(Unavailable):  # it is not asked again at once
        asyncio.run(keyring.caller(key.secret, needs_database=True))
    clock.now += module.RETRY_SECONDS
    assert asyncio.run(keyring.caller(key.secret, needs_database=True)).tenant == "ours"


def test_while_one_request_looks_again_the_others_go_on(
    keyring: Keyring, key: NewKey, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand requests at the same moment ask the database once; those that come when it takes long ask too."""
    find, num_looks, may_end = keyring._find, [], threading.Event()

    def find_slowly(digest: str) -> ApiKey | None:
        num_looks.append(1)
        may_end.wait(10)
        return find(digest)

    async def use() -> None:
        await keyring.caller(key.secret, needs_database=True)
        clock.now += FRESH_SECONDS
        monkeypatch.setattr(keyring, "_find", find_slowly)
        first = asyncio.create_task(keyring.caller(key.secret, needs_database=True))  # type: ignore[arg-type]  # a coroutine
        await asyncio.sleep(0)
        await asyncio.gather(*(keyring.caller(key.secret, needs_database=True) for _ in range(1000)))
        assert len(num_looks) <= 1  # it begins in a thread
        clock.now += module.MAX_AGE_SECONDS - FRESH_SECONDS
        second = asyncio.create_task(keyring.caller(key.secret, needs_database=True))  # type: ignore[arg-type]  # a coroutine
        await asyncio.sleep(0)
        may_end.set()
        await asyncio.gather(first, second)

    asyncio.run(use())
    assert len(num_looks) == 2
