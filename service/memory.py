"""How the API holds its memory, which is bounded by what it works on, not by what it once worked on.

glibc stops giving a large block back to the kernel once a block as large was freed: then it lies between others, in as
many places as there are threads. With a fixed size it does so always (hostile uploads: 500 MB at most, not 550).
"""

import ctypes

M_MMAP_THRESHOLD = -3  # of malloc.h
LARGE_BYTES = 4 * 2**20  # a file beyond the usual


def give_back_large_blocks() -> None:
    """Have this process give blocks from LARGE_BYTES on back as soon as they are freed; nothing where it can't."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
