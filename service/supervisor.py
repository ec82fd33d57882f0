"""Keeps the parts of the stack running: starts them in order, restarts one that ends, stops them in reverse order."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from service.process import ChildProcess, StartFailed

FIRST_DELAY_SECONDS = 0.5  # then 1, 2, 4
MAX_FAILURES = 5  # in a row: the next restart would not help either
STEADY_SECONDS = 60  # a part that ran for so long was well; its next end counts as the first one

log = structlog.get_logger("simclr.up")


@dataclass
class Part:
    """A child process and how it is started."""

    process: ChildProcess
    start: Callable[[], object]
    started_at: float = field(default=0, init=False)
    restart_at: float | None = field(default=None, init=False)  # None: it runs, as far as we know
    num_failures: int = field(default=0, init=False)


class Supervisor:
    """The parts that were started, in that order. The instants are of the monotonic clock."""

    def __init__(self) -> None:
        self._parts: list[Part] = []

    def start(self, process: ChildProcess, start: Callable[[], object]) -> None:
        """Start a part, and from now on keep it running."""
        part = Part(process, start)
        self._parts.append(part)  # first, so that stop() finds it when a signal interrupts the start
        self._start(part)

    def check(self) -> None:
        """Restart what has ended, after a delay that doubles. Raises StartFailed when that doesn't help."""
        for part in self._parts:
            if part.restart_at is None:
                self._check_running(part)
            elif time.monotonic() >= part.restart_at:
                part.restart_at = None
                self._start(part)

    def stop(self) -> None:
        """Stop the parts, last first; each has ended when the one before it is asked to."""
        for part in reversed(self._parts):
            part.process.stop()

    def _start(self, part: Part) -> None:
        part.start()
        part.started_at = time.monotonic()

    def _check_running(self, part: Part) -> None:
        status = part.process.exit_status()
        if status is None:
            return
        name, reason = part.process.name, _reason(status)
        if time.monotonic() - part.started_at > STEADY_SECONDS:
            part.num_failures = 0
        part.num_failures += 1
        if part.num_failures == MAX_FAILURES:
            raise StartFailed(f"{name} ended {MAX_FAILURES} times in a row, now with {reason}; see {part.process.log}")
        delay = FIRST_DELAY_SECONDS * 2 ** (part.num_failures - 1)
        part.restart_at = time.monotonic() + delay
        log.warning(
            "part ended; starting it again", part=name, reason=reason, in_seconds=delay, log=str(part.process.log)
        )


def _reason(status: int) -> str:
    return f"status {status}" if status >= 0 else f"signal {-status}"
