"""Waiting for what other processes do, and telling which of them run."""

import contextlib
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


def running_children(argument: str) -> list[psutil.Process]:
    """This process's children with such an argument; a zombie, whoever has to reap it, has none."""
    children = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):  # also a zombie
            if argument in child.cmdline():
                children.append(child)
    return children
