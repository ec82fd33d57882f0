"""API keys in the database."""

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text, update

from service.core.db import Database
from service.core.errors import Invalid, NotFound
from service.core.keys import SECRET_PATTERN, create_key, find_key, has_live_key, revoke_key
from service.core.quotas import Limits
from service.core.tables import ApiKey


def test_only_the_digest_of_a_secret_is_kept(database: Database) -> None:
    """No column holds the secret; its sha256 finds the key, and that of another secret doesn't."""
    with database.transaction() as session:
        made = create_key(session, tenant="default", name="ci", scopes=["write", "read"])
        assert SECRET_PATTERN.fullmatch(made.secret)
        row = session.execute(text("select * from api_key")).one()
        assert made.secret not in map(str, row)
        assert made.secret[8:] not in str(row)
        digest = hashlib.sha256(made.secret.encode()).hexdigest()
        found = find_key(session, digest)
        assert found is not None
        assert (found.id, found.scopes, found.prefix) == (made.row.id, ["read", "write"], made.secret[:8])
        assert find_key(session, digest[::-1]) is None


def test_use_is_noted_once_a_minute(database: Database) -> None:
    """A key costs no write a request; another key's use is another matter."""

    def used() -> datetime | None:
        with database.transaction() as session:
            find_key(session, made.row.secret_sha256)
        with database.transaction() as session:
            return session.get_one(ApiKey, made.row.id).last_used_at

    with database.transaction() as session:
        made = create_key(session, tenant="default", name="ci", scopes=["read"])
        other = create_key(session, tenant="default", name="other", scopes=["read"])
    first = used()
    assert first is not None
    assert used() == first
    with database.transaction() as session:
        old = update(ApiKey).where(ApiKey.id == made.row.id)
        session.execute(old.values(last_used_at=first - timedelta(minutes=2)))
    assert (used() or first) > first
    with database.transaction() as session:
        assert session.get_one(ApiKey, other.row.id).last_used_at is None


@pytest.mark.parametrize(
    ("field", "wrong", "allowed"),
    [
        ("scopes", {"scopes": ["read", "fly"]}, "some of read, write, train, admin, not read, fly"),
        ("scopes", {"scopes": []}, "some of read, write, train, admin, not none"),
        ("tenant", {"tenant": "Not A Name"}, "up to 63 of a-z, 0-9, _ and -, not 'Not A Name'"),
        ("tenant", {"tenant": "x'; drop table job; --"}, "up to 63"),
        ("expires_at", {"expires_at": datetime.now(UTC) - timedelta(seconds=5)}, "in the future"),
    ],
)
def test_what_a_key_cannot_be(database: Database, field: str, wrong: dict[str, object], allowed: str) -> None:
    """The message names the field and what is allowed."""
    fields = {"tenant": "default", "name": "ci", "scopes": ["read"]} | wrong
    with database.transaction() as session, pytest.raises(Invalid, match=f"^{field}: {allowed}") as caught:
        create_key(session, **fields)  # type: ignore[arg-type]  # some are wrong on purpose
    (error,) = caught.value.errors
    assert (error["field"], error["message"][: len(allowed)]) == (field, allowed)


def test_a_key_has_what_it_was_made_with(database: Database) -> None:
    """Its limits are those that it was given, and no others."""
    later = datetime.now(UTC) + timedelta(days=1)
    fields = {"tenant": "default", "name": "ci", "scopes": ["train"], "expires_at": later}
    with database.transaction() as session:
        limited = create_key(session, **fields, limits=Limits(jobs=2)).row  # type: ignore[arg-type]  # of any kind
        free = create_key(session, tenant="default", name="free", scopes=["read"]).row
        assert {name: getattr(limited, name) for name in fields} == fields
        assert (limited.limits, free.limits, free.expires_at) == ({"jobs": 2}, {}, None)
        assert limited.id != free.id


def test_a_key_is_live_until_it_is_revoked_or_expires(database: Database) -> None:
    """A service whose keys are all over needs a new one."""
    with database.transaction() as session:
        assert not has_live_key(session)
        first = create_key(session, tenant="default", name="a", scopes=["read"]).row
        assert has_live_key(session)
        revoke_key(session, first.id)
        assert not has_live_key(session)
        later = datetime.now(UTC) + timedelta(days=1)
        create_key(session, tenant="default", name="b", scopes=["read"], expires_at=later)
        assert has_live_key(session)
        session.execute(update(ApiKey).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
        assert not has_live_key(session)


def test_a_second_revocation_keeps_the_first_ones_time(database: Database) -> None:
    """When a key was refused for the first time is not rewritten."""
    with database.transaction() as session:
        key_id = create_key(session, tenant="default", name="a", scopes=["read"]).row.id
        first = revoke_key(session, key_id).revoked_at
    with database.transaction() as session:
        assert revoke_key(session, key_id).revoked_at == first


def test_a_key_that_was_never_made_cannot_be_revoked(database: Database) -> None:
    """It is named."""
    with database.transaction() as session, pytest.raises(NotFound, match="there is no key key_x"):
        revoke_key(session, "key_x")
