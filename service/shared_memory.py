"""Memory that a process shares with its child, for what would otherwise be copied into a socket and out of it again."""

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager

SHARED_BYTES = 2**20  # a usual photograph, and the largest input of an encoder (512 x 512 x 3)


@contextmanager
def shared_memory() -> Iterator[tuple[int, mmap.mmap]]:
    """A file descriptor, open in the block, for the child to `map_shared`; and the memory, which lives on."""
    # Not multiprocessing's: that is a file in /dev/shm, which a container has little of and a kill leaves behind.
    descriptor = os.memfd_create("shared", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(descriptor, SHARED_BYTES)
        # A child that was taken over could shorten it, and who read it then would die.
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        yield descriptor, mmap.mmap(descriptor, SHARED_BYTES)
    finally:
        os.close(descriptor)


def map_shared(descriptor: int) -> mmap.mmap:
    """The memory behind a descriptor that the parent passed on."""
    memory = mmap.mmap(descriptor, SHARED_BYTES)
    os.close(descriptor)
    return memory
