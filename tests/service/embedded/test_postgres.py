import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from service.core.child import child_command
from service.embedded.postgres import EmbeddedPostgres
from service.process import StartFailed
from tests.waiting import still_running, wait_until

START = """
import signal, sys
from pathlib import Path
from service.core.child import child_command
from service.embedded.postgres import EmbeddedPostgres
EmbeddedPostgres(Path(sys.argv[1]), Path(sys.argv[2])).start()
print("started", flush=True)
signal.pause()
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server that was not started yet."""
    server = EmbeddedPostgres(tmp_path / "postgres", tmp_path / "postgres.log")
    yield server
    server.stop()


def postmaster(server: EmbeddedPostgres) -> psutil.Process:
    """The server's first process."""
    return psutil.Process(int((server.data / "postmaster.pid").read_text().split()[0]))


def test_rows_survive_a_kill_of_all_processes(server: EmbeddedPostgres) -> None:
    """Acknowledged rows are there after kill -9 of every process of the server, and the URL is the same."""
    url = server.start()
    with psycopg.connect(url) as connection:
        connection.execute("create table t as select generate_series(1, 1000) as n")
    first = postmaster(server)
    for process in [first, *first.children()]:
        with suppress(psutil.NoSuchProcess):  # a child ends by itself when it sees its parent dead
            process.kill()
    wait_until(lambda: server.process.exit_status() is not None)
    assert server.start() == url
    with psycopg.connect(url) as connection:
        assert connection.execute("select sum(n) from t").fetchone() == (500_500,)


def test_it_dies_with_its_parent_even_during_a_crash_recovery(server: EmbeddedPostgres) -> None:
    """A fast shutdown hangs there, with half of the processes left; an immediate one doesn't."""
    command = [sys.executable, "-c", START, str(server.folder), str(server.process.log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        first = postmaster(server)
        processes = [first, *first.children()]
        next(child for child in first.children() if "checkpointer" in child.cmdline()[0]).kill()
        wait_until(lambda: "reinitializing" in server.process.log.read_text())
        processes += first.children()
        parent.kill()
    wait_until(lambda: not still_running(processes), timeout_seconds=5)


def test_a_stale_pid_that_is_now_another_process_does_not_stop_the_start(server: EmbeddedPostgres) -> None:
    """After a restart of a container the dead server's pid may be any other process's, even of the same user."""
    server.start()
    pid_file = (server.data / "postmaster.pid").read_text()
    server.stop()
    as_server_user = "nobody" if os.geteuid() == 0 else None
    command = child_command(["sleep", "60"], on_parent_death=signal.SIGKILL, user=as_server_user)
    with subprocess.Popen(command) as other:
        (server.data / "postmaster.pid").write_text(pid_file.replace(pid_file.split()[0], str(other.pid), 1))
        server.start()
        assert postmaster(server).pid != other.pid
        other.kill()


def test_it_listens_on_a_private_socket_only(server: EmbeddedPostgres) -> None:
    """No other user of the machine, and nobody on the network, can connect."""
    server.start()
    assert server.socket_folder is not None
    assert stat.S_IMODE(server.socket_folder.stat().st_mode) == 0o700
    assert postmaster(server).net_connections("inet") == []


def test_a_long_path_of_the_data_folder_is_fine(tmp_path: Path) -> None:
    """A socket's path has at most 107 bytes: beyond it the socket is in a private folder in /tmp, gone after stop."""
    folder = tmp_path / ("long " * 20) / "postgres"
    server = EmbeddedPostgres(folder, tmp_path / "postgres.log")
    with psycopg.connect(server.start()) as connection:
        assert connection.execute("show data_directory").fetchone() == (str(folder / "data"),)
    socket_folder = server.socket_folder
    assert socket_folder is not None
    assert socket_folder.parent == Path("/tmp")
    server.stop()
    assert not socket_folder.exists()


def test_an_interrupted_creation_is_done_again(server: EmbeddedPostgres) -> None:
    """A kill in the middle of initdb leaves a folder that the next start replaces."""
    (server.folder / "data.unfinished").mkdir(parents=True)
    (server.folder / "data.unfinished" / "PG_VERSION").write_text("18")
    server.start()
    assert not (server.folder / "data.unfinished").exists()


def test_a_server_that_cannot_start_fails_at_once_with_its_own_words(server: EmbeddedPostgres) -> None:
    """The last lines of the log are in the message: no waiting for the 900 s that crash recovery may take."""
    server.start()
    server.stop()
    (server.data / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(StartFailed, match="database files are incompatible with server"):
        server.start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another user")
def test_as_root_it_runs_as_the_owner_of_its_data(server: EmbeddedPostgres) -> None:
    """PostgreSQL refuses to run as root."""
    server.start()
    assert postmaster(server).username() == server.data.owner() == "nobody"
