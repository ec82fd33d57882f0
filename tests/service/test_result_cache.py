"""The memory of vectors."""

import numpy as np

from service.result_cache import ENTRY_BYTES, ResultCache, key_of

VECTOR = np.arange(4, dtype=np.float32)
SIZE = ENTRY_BYTES + VECTOR.nbytes


def test_the_key_is_all_that_a_vector_depends_on() -> None:
    """Another byte, model or layer is another key."""
    keys = {key_of(b"a", "m", "h"), key_of(b"b", "m", "h"), key_of(b"a", "n", "h"), key_of(b"a", "m", "z")}
    assert len(keys) == 4
    assert key_of(b"a", "m", "h") in keys


def test_bytes_are_bounded_and_the_oldest_leave() -> None:
    """Of three where two have room, the one that was used least recently is gone."""
    cache = ResultCache(2 * SIZE)
    a, b, c = (key_of(name, "m", "h") for name in (b"a", b"b", b"c"))
    cache.put(a, VECTOR)
    cache.put(b, VECTOR)
    cache.put(a, VECTOR)  # twice is once
    assert cache.get(a) is not None
    cache.put(c, VECTOR)
    assert [cache.get(key) is not None for key in (a, b, c)] == [True, False, True]


def test_a_row_does_not_keep_its_batch() -> None:
    """What is kept is a copy: neither the batch stays in memory, nor does a later change of it count."""
    batch = np.ones((64, 4), np.float32)
    cache = ResultCache(SIZE)
    cache.put(key_of(b"a", "m", "h"), batch[0])
    batch[:] = 0
    found = cache.get(key_of(b"a", "m", "h"))
    assert found is not None
    assert (found.base, found.tolist()) == (None, [1, 1, 1, 1])


def test_nothing_is_kept_of_no_bytes() -> None:
    """0 turns it off."""
    cache = ResultCache(0)
    cache.put(key_of(b"a", "m", "h"), VECTOR)
    assert cache.get(key_of(b"a", "m", "h")) is None
