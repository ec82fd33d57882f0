"""Ids sort by time, fit their pattern and don't collide."""

import re
import time

from service.core.ids import ID_PATTERN, new_id


def test_ids_fit_the_pattern_that_routes_ask_for() -> None:
    """A new id matches ID_PATTERN."""
    assert re.match(ID_PATTERN, new_id("job"))


def test_later_ids_sort_after_earlier_ones() -> None:
    """Ids of different milliseconds are in the order of their making."""
    first = new_id("job")
    deadline = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 == deadline:
        pass
    assert first < new_id("job")


def test_ids_of_one_moment_differ() -> None:
    """Ten thousand ids made at once are all different."""
    assert len({new_id("job") for _ in range(10_000)}) == 10_000
