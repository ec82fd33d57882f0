import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

from service.embedded.valkey import EmbeddedValkey
from service.process import StartFailed
from tests.waiting import wait_until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """A server that was not started yet, in a folder whose name has to be quoted."""
    server = EmbeddedValkey(tmp_path / 'with "quotes" and spaces', tmp_path / "valkey.log")
    yield server
    server.stop()


def running(server: EmbeddedValkey) -> psutil.Process:
    """The server's process."""
    found = [p for p in psutil.Process().children() if p.name().startswith("valkey") and _listens(p, server.port)]
    assert len(found) == 1
    return found[0]


def _listens(process: psutil.Process, port: int | None) -> bool:
    return any(connection.laddr.port == port for connection in process.net_connections("tcp"))


def test_messages_survive_a_restart(server: EmbeddedValkey) -> None:
    """What was pushed is there after stop and start, at the same URL."""
    url = server.start()
    with redis.Redis.from_url(url) as client:
        client.rpush("queue", "one", "two")
    server.stop()
    assert server.start() == url
    with redis.Redis.from_url(url) as client:
        assert client.lrange("queue", 0, -1) == [b"one", b"two"]


def test_it_starts_again_after_a_kill(server: EmbeddedValkey) -> None:
    """A kill -9 loses at most the last second, and never the way to start."""
    url = server.start()
    running(server).kill()
    wait_until(lambda: server.process.exit_status() is not None)
    assert server.start() == url


def test_only_who_knows_the_password_gets_in(server: EmbeddedValkey) -> None:
    """The password is in a private file, and not in the arguments that any user of the machine can list."""
    url = server.start()
    password = (server.folder / "password").read_text()
    assert password in url
    assert stat.S_IMODE((server.folder / "password").stat().st_mode) == 0o600
    assert password not in " ".join(running(server).cmdline())
    with redis.Redis.from_url(url.replace(password, "wrong")) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_it_listens_on_the_loopback_only(server: EmbeddedValkey) -> None:
    """Nobody on the network can connect."""
    server.start()
    assert {connection.laddr.ip for connection in running(server).net_connections()} == {"127.0.0.1"}


def test_a_full_memory_refuses_writes_and_drops_nothing(server: EmbeddedValkey) -> None:
    """An evicted queue would be a lost message."""
    with redis.Redis.from_url(server.start()) as client:
        client.rpush("queue", "kept")
        client.config_set("maxmemory", "1kb")  # less than the server itself takes
        with pytest.raises(redis.OutOfMemoryError):
            client.rpush("other", "one more")
        assert client.lindex("queue", 0) == b"kept"


def test_a_server_that_cannot_start_fails_with_its_own_words(server: EmbeddedValkey) -> None:
    """The message has the last lines of the log."""
    server.folder.mkdir(parents=True)
    (server.folder / "appendonlydir").write_text("no folder")
    with pytest.raises(StartFailed, match=r"Valkey ended while starting(.|\n)*append-only"):
        server.start()
