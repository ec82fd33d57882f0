"""`simclr keys`, on the machine that has the database."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service import key_commands
from service.core.db import Database
from service.core.keys import SECRET_PATTERN, digest_of
from service.core.settings import Settings
from service.core.tables import ApiKey
from service.key_commands import keys


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, postgres_url: str) -> Settings:
    """The command's settings: on the tests' database."""
    settings = Settings(data_dir=tmp_path, database_url=postgres_url)
    monkeypatch.setattr(key_commands, "get_settings", lambda: settings)
    return settings


def simclr_keys(*arguments: str) -> Result:
    return CliRunner().invoke(keys, arguments)


def create(*arguments: str) -> Result:
    return simclr_keys("create", "--name", "ci", "--scopes", "read, write", *arguments)


def test_a_key_of_a_new_tenant(database: Database) -> None:
    """Its secret is all that standard output has; the row is the tenant's, with expiry and limits."""
    made = create("--tenant", "ours", "--expires", "90d", "--limits", '{"images": 10}')
    secret = made.stdout.strip()
    assert SECRET_PATTERN.fullmatch(secret)
    with database.of("ours").transaction() as session:
        (key,) = session.query(ApiKey).all()
    assert key.secret_sha256 == digest_of(secret)
    assert (key.scopes, key.limits) == (["read", "write"], {"images": 10})
    assert key.expires_at is not None
    assert (key.expires_at - key.created_at).days in {89, 90}
    assert key.id in made.stderr


def test_keys_are_listed_and_revoked(database: Database) -> None:
    """Of all tenants, or of one; a list has no secret."""
    secrets = [create("--tenant", tenant).stdout.strip() for tenant in ("ours", "theirs")]
    assert not any(secret[8:] in simclr_keys("list").stdout for secret in secrets)
    with database.of("ours").transaction() as session:
        (key,) = session.query(ApiKey).all()
    listed = simclr_keys("list", "--tenant", "ours").stdout
    assert "theirs" not in listed
    assert simclr_keys("revoke", key.id).stdout == f"{key.id} is revoked\n"
    with database.of("ours").transaction() as session:
        assert session.get_one(ApiKey, key.id).revoked_at is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--scopes", "fly"), "scopes: some of read, write, train, admin, not fly"),
        (("--tenant", "Ours!"), "tenant: up to 63 of a-z"),
        (("--expires", "soon"), "--expires: a number of days or hours such as 90d or 12h, not 'soon'"),
        (("--limits", '{"image": 1}'), "--limits: image: Extra inputs are not permitted"),
        (("--data-dir", "/nonexistent"), "no `simclr up` runs on /nonexistent: start it, name another --data-dir"),
    ],
)
def test_mistakes_are_told_in_one_line(database: Database, arguments: tuple[str, str], message: str) -> None:
    """Without a traceback, and without a key."""
    ended = create(*arguments)
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"simclr: {message}")
    assert ended.stderr.count("\n") == 1


def test_a_database_that_is_not_ready(database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is away, and a key that there isn't."""
    assert simclr_keys("revoke", "key_none").stderr == "simclr: there is no key key_none\n"
    away = settings.model_copy(update={"database_url": "postgresql://x@127.0.0.1:9/x"})
    monkeypatch.setattr(key_commands, "get_settings", lambda: away)
    assert create().stderr.startswith("simclr: the database doesn't answer")
