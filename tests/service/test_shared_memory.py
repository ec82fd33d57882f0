"""Memory that a process shares with its child."""

import os

import pytest

from service.shared_memory import SHARED_BYTES, map_shared, shared_memory


def test_what_one_writes_the_other_reads() -> None:
    """Both ways, also after the descriptor is closed."""
    with shared_memory() as (descriptor, ours):
        theirs = map_shared(os.dup(descriptor))
    ours[:5] = b"there"
    assert theirs[:5] == b"there"
    theirs[-4:] = b"back"
    assert ours[SHARED_BYTES - 4 :] == b"back"


@pytest.mark.parametrize("num_bytes", [0, 2 * SHARED_BYTES])
def test_its_size_is_fixed(num_bytes: int) -> None:
    """A child can't have its parent read behind the end, which would end it."""
    with shared_memory() as (descriptor, _), pytest.raises(PermissionError):
        os.ftruncate(descriptor, num_bytes)
