import signal
import sys
from pathlib import Path

import pytest

from service.process import ChildProcess, StartFailed
from tests.waiting import wait_until


def child(folder: Path, *, stop_timeout_seconds: float = 10) -> ChildProcess:
    """A child that was not started yet."""
    return ChildProcess(
        "program",
        folder / "logs" / "program.log",
        stop_signal=signal.SIGTERM,
        on_parent_death=signal.SIGKILL,
        stop_timeout_seconds=stop_timeout_seconds,
    )


def python(code: str) -> list[str]:
    """The command that runs `code`."""
    return [sys.executable, "-c", code]


def test_it_logs_both_outputs_after_what_is_there(tmp_path: Path) -> None:
    """A restart appends: the reason of the end before is still to be read."""
    program = child(tmp_path)
    for word in ("first", "second"):
        program.start(python(f"import sys; print('out {word}', flush=True); sys.exit('error {word}')"))
        wait_until(lambda: program.exit_status() == 1)
    assert program.log.read_text() == "out first\nerror first\nout second\nerror second\n"


def test_it_reads_what_it_is_given_and_then_the_end(tmp_path: Path) -> None:
    """Standard input carries what must not stand in the arguments."""
    program = child(tmp_path)
    program.start(python("import sys; print(sys.stdin.read()[::-1])"), stdin=b"secret")
    wait_until(lambda: program.exit_status() == 0)
    assert program.log.read_text() == "terces\n"


def test_a_program_that_ends_while_starting_is_reported_at_once(tmp_path: Path) -> None:
    """The message has the last lines of its log."""
    program = child(tmp_path)
    program.start(python("import sys; sys.exit('the reason')"))
    with pytest.raises(StartFailed, match=r"^program ended while starting; the end of .*program\.log:\nthe reason$"):
        program.wait_until(lambda: False, timeout_seconds=60)


def test_a_program_that_never_gets_ready_is_stopped(tmp_path: Path) -> None:
    """It doesn't stay behind, half started."""
    program = child(tmp_path)
    program.start(["sleep", "60"])
    with pytest.raises(StartFailed, match=r"^program was not ready within 0\.1 s; see .*program\.log$"):
        program.wait_until(lambda: False, timeout_seconds=0.1)
    assert program.exit_status() == -signal.SIGTERM


def test_a_program_that_ignores_the_stop_is_killed(tmp_path: Path) -> None:
    """Stopping always ends."""
    program = child(tmp_path, stop_timeout_seconds=0.1)
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    program.start(python(code))
    program.wait_until(lambda: "ready" in program.log.read_text(), timeout_seconds=10)
    program.stop()
    assert program.exit_status() == -signal.SIGKILL


def test_stopping_what_never_started_or_has_ended_is_fine(tmp_path: Path) -> None:
    """The way out needs no questions."""
    program = child(tmp_path)
    program.stop()
    program.start(["true"])
    wait_until(lambda: program.exit_status() == 0)
    program.stop()
    assert program.exit_status() == 0
