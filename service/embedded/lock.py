"""A server's hold on its folder, by a lock that the server inherits: it lasts exactly as long as the server lives."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.process import StartFailed


@contextmanager
def locked(folder: Path, *, timeout_seconds: float = 60) -> Iterator[int]:
    """A descriptor that holds the folder's lock, for a server to inherit; this process lets go when the block ends.

    Waits while a server of an earlier process is still shutting down. Raises StartFailed when it doesn't end in time.
    """
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _acquire(descriptor, folder, deadline=time.monotonic() + timeout_seconds)
        yield descriptor
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, folder: Path, *, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StartFailed(f"another server still runs on {folder}; stop it first") from None
            time.sleep(0.05)
        else:
            return
