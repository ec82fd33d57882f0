"""A child process that logs to a file and dies with this one."""

import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from service.core.child import child_command


class StartFailed(RuntimeError):
    """A part of the stack can't be started; the message says why and what to do."""


class ChildProcess:
    """A program as a child process. Start it from the main thread (service/core/child.py says why)."""

    def __init__(
        self,
        name: str,
        log: Path,
        *,
        stop_signal: signal.Signals,
        on_parent_death: signal.Signals,
        stop_timeout_seconds: float,
    ) -> None:
        self.name = name
        self.log = log
        self.stop_signal = stop_signal
        self.on_parent_death = on_parent_death
        self.stop_timeout_seconds = stop_timeout_seconds
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        stdin: bytes = b"",
        descriptors: Sequence[int] = (),
    ) -> None:
        """Start `command`, which reads `stdin` and inherits nothing but `descriptors`.

        It has a session of its own: Ctrl-C in the terminal reaches this process only, which stops it in its turn.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  # the commands are this project's own
                child_command(command, on_parent_death=self.on_parent_death, user=user),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=descriptors,
                start_new_session=True,
            )
        assert self._process.stdin is not None
        with self._process.stdin as pipe:
            pipe.write(stdin)

    @property
    def pid(self) -> int:
        """Of the newest process that was started, whether it runs or has ended."""
        assert self._process is not None
        return self._process.pid

    def exit_status(self) -> int | None:
        """The exit status, negative for a signal; None while the process runs."""
        assert self._process is not None
        return self._process.poll()

    def wait_until(self, is_ready: Callable[[], bool], *, timeout_seconds: float) -> None:
        """Return when `is_ready()`. Raises StartFailed when the process ends before, or isn't ready in time."""
        deadline = time.monotonic() + timeout_seconds
        while not is_ready():
            if self.exit_status() is not None:
                raise StartFailed(f"{self.name} ended while starting; the end of {self.log}:\n{last_lines(self.log)}")
            if time.monotonic() > deadline:
                self.stop()
                raise StartFailed(f"{self.name} was not ready within {timeout_seconds:g} s; see {self.log}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Ask the process to end, kill it if it doesn't in time; fine if it has ended or never started."""
        if self._process is None:
            return
        self._process.send_signal(self.stop_signal)  # nothing where it has ended
        try:
            self._process.wait(self.stop_timeout_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def last_lines(log: Path, num_lines: int = 10) -> str:
    """The end of a log file."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-num_lines:])
