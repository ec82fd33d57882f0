"""Waiting for what other processes do: poll with a deadline."""

import time
from collections.abc import Callable, Iterable

import psutil


def wait_until(condition: Callable[[], object], timeout_seconds: float = 10) -> None:
    """Return when `condition()` is true; fail the test when it isn't in time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_seconds} s"
        time.sleep(0.02)


def still_running(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended; a zombie has, though its new parent may never ask for its status."""
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
