"""Ids of rows: sortable by time of creation, safe in URLs and paths."""

import itertools
import os
import time

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32
PAIRS = ["".join(pair) for pair in itertools.product(ALPHABET, repeat=2)]  # by 10 bits: half as many steps
ID_PATTERN = r"^[a-z]{2,4}_[0-9a-hjkmnp-tv-z]{26}$"
IMAGE_ID_PATTERN = r"^[0-9a-f]{64}$"


def new_id(prefix: str) -> str:
    """A new id `prefix_` + 26 characters: 48 bits of milliseconds, 80 random bits (the ULID layout)."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    return f"{prefix}_{''.join([PAIRS[value >> shift & 1023] for shift in range(120, -1, -10)])}"
