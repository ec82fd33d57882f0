import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from service.core.child import NICENESS, child_command
from tests.waiting import still_running, wait_until

PARENT = """
import signal, subprocess, sys
from service.core.child import child_command
subprocess.Popen(child_command(sys.argv[2:], on_parent_death=signal.Signals[sys.argv[1]]))
print("started", flush=True)
signal.pause()
"""
TELL_SIGNAL = 'trap "echo TERM > told; exit" TERM; echo $$ > pid; while :; do sleep 0.05; done'

ASK_KERNEL = """
import ctypes
PR_GET_PDEATHSIG, value = 2, ctypes.c_int()
ctypes.CDLL(None).prctl(PR_GET_PDEATHSIG, ctypes.byref(value))
print(value.value)
"""


def kill_parent_of(command: list[str], on_parent_death: str, folder: Path) -> psutil.Process:
    """Start `command`, which writes its pid, as a child's child; kill its parent; the orphan."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, on_parent_death, *command], cwd=folder, stdout=subprocess.DEVNULL
    )
    wait_until(lambda: (folder / "pid").exists() and (folder / "pid").read_text().strip())
    orphan = psutil.Process(int((folder / "pid").read_text()))
    parent.kill()
    parent.wait()
    return orphan


@pytest.mark.parametrize(("on_parent_death", "told"), [("SIGTERM", "TERM\n"), ("SIGKILL", None)])
def test_a_killed_parent_takes_its_child_along(on_parent_death: str, told: str | None, tmp_path: Path) -> None:
    """The child gets exactly the signal that was asked for, though its parent had no chance to send any."""
    orphan = kill_parent_of(["bash", "-c", TELL_SIGNAL], on_parent_death, tmp_path)
    wait_until(lambda: not still_running([orphan]))
    assert ((tmp_path / "told").read_text() if (tmp_path / "told").exists() else None) == told


def test_a_child_whose_parent_is_dead_already_does_not_start(tmp_path: Path) -> None:
    """The parent may die between the fork and the request for its death signal: then the command never runs."""
    command = child_command(["touch", str(tmp_path / "ran")], on_parent_death=signal.SIGKILL)
    not_my_parent = [str(os.getppid()) if part == str(os.getpid()) else part for part in command]
    assert subprocess.run(not_my_parent, check=False).returncode == 1
    assert not (tmp_path / "ran").exists()


def test_a_folder_named_service_in_the_current_directory_is_not_imported(tmp_path: Path) -> None:
    """A user may run the service beside folders of their own with such a common name."""
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "__init__.py").write_text("raise SystemExit('imported')")
    subprocess.run(child_command(["true"], on_parent_death=signal.SIGKILL), cwd=tmp_path, check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_passes_folders_that_only_root_may(tmp_path: Path) -> None:
    """A program that refuses to run as root finds its files in a clone in /root."""
    tmp_path.chmod(0o700)
    (tmp_path / "file").write_text("reached")
    command = ["bash", "-c", f"id -un; cat {tmp_path}/file"]
    as_nobody = child_command(command, on_parent_death=signal.SIGKILL, user="nobody")
    assert subprocess.run(as_nobody, check=True, capture_output=True, text=True).stdout == "nobody\nreached"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_dies_with_the_parent_too(tmp_path: Path) -> None:
    """A change of user clears the death signal in the kernel, so it is asked for after the change."""
    command = child_command([sys.executable, "-c", ASK_KERNEL], on_parent_death=signal.SIGTERM, user="nobody")
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == f"{signal.SIGTERM.value}\n"


def niceness(*, nice: bool) -> list[str]:
    """Of a child in a session of its own, and of that session."""
    tell = ["bash", "-c", "nice; cat /proc/self/autogroup 2> /dev/null"]
    command = child_command(tell, on_parent_death=signal.SIGKILL, nice=nice)
    told = subprocess.run(command, check=True, capture_output=True, text=True, start_new_session=True).stdout
    return [line.split()[-1] for line in told.splitlines()]


def test_a_nice_child_gives_way_with_its_session() -> None:
    """Where the kernel shares cores among sessions, `nice` alone would change nothing."""
    own, *sessions = niceness(nice=True)
    assert int(own) == os.nice(0) + NICENESS
    assert sessions in ([], [own])
    assert niceness(nice=False)[0] == str(os.nice(0))
