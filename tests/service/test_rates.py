"""How often a key may ask."""

import pytest

from service import rates
from service.caller import Caller
from service.core.errors import RateLimited
from service.core.quotas import Limits


class Clock:
    """time.monotonic, moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(rates, "time", clock)
    return clock


def caller(key_id: str, rate: float | None) -> Caller:
    return Caller("default", key_id, frozenset(), Limits(requests_per_second=rate))


def num_allowed(checked: rates.Rates, who: Caller, tries: int = 50) -> int:
    number = 0
    for _ in range(tries):
        try:
            checked.check(who)
        except RateLimited:
            continue
        number += 1
    return number


def test_a_key_has_its_rate_and_a_burst_of_two_seconds(clock: Clock) -> None:
    """Of 5 a second: 10 at once, then 5 with each second, and never more than 10; another key has its own."""
    checked, who = rates.Rates(), caller("a", 5)
    assert num_allowed(checked, who) == 10
    clock.now += 1
    assert num_allowed(checked, who) == 5
    clock.now += 1000
    assert num_allowed(checked, who) == 10
    assert num_allowed(checked, caller("b", 5)) == 10


def test_a_slow_rate_lets_one_in_at_a_time(clock: Clock) -> None:
    """One request in ten seconds; what is refused is told its rate and when to come, a client in whole seconds."""
    checked, who = rates.Rates(), caller("a", 0.1)
    checked.check(who)
    clock.now += 4.5
    with pytest.raises(RateLimited, match=r"0\.1 requests a second; the next one in 5\.50 seconds") as caught:
        checked.check(who)
    assert caught.value.retry_after_seconds == 6
    clock.now += 5.5
    checked.check(who)


def test_without_a_rate_there_is_no_limit(clock: Clock) -> None:
    """None is none."""
    assert num_allowed(rates.Rates(), caller("a", None)) == 50
