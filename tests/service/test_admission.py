"""What is let in, and what is turned away before it costs anything."""

import pytest

from service import admission as module
from service.admission import Admission, Ticket, Work
from service.core.errors import Busy, TooLarge
from service.core.settings import Settings

SLOW = Work("mdl_slow", 0.25)
FILES = [b"1234"] * 3


class Clock:
    """In place of the module `time`."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time, which stands still unless a test moves it."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def with_limits(**limits: float) -> Admission:
    return Admission(Settings.model_validate({"max_wait_seconds": 600, **limits}))


def work_off(ticket: Ticket, num_images: int, clock: Clock, *, seconds: float, is_sample: bool = True) -> None:
    """Finish images, one every so many seconds."""
    for _ in range(num_images):
        clock.now += seconds
        ticket.finish(is_sample=is_sample)


def test_images_in_flight_are_bounded() -> None:
    """What would be one image too many is refused until another is done or its request has ended, however it ends."""
    admission = with_limits(max_images_in_flight=5)
    with admission.admit(SLOW, FILES) as ticket:
        busy = pytest.raises(Busy, match="3 images of 12 bytes are in work; try again in a second")
        with busy as caught, admission.admit(SLOW, FILES):
            pass
        assert caught.value.retry_after_seconds == 1
        ticket.finish(is_sample=True)
        with admission.admit(SLOW, FILES):
            assert admission.num_images == 5
    with pytest.raises(RuntimeError), admission.admit(SLOW, FILES):
        raise RuntimeError
    assert admission.num_images == 0


def test_bytes_in_flight_are_bounded() -> None:
    """So are the bytes of their files, until the request has ended."""
    admission = with_limits(max_bytes_in_flight=20)
    with admission.admit(SLOW, FILES):
        with pytest.raises(Busy), admission.admit(SLOW, FILES):
            pass
        with admission.admit(SLOW, FILES[:2]):
            pass
    with admission.admit(SLOW, FILES):
        pass


@pytest.mark.parametrize(
    ("limits", "setting", "code"),
    [
        ({"max_images_in_flight": 2}, "MAX_IMAGES_IN_FLIGHT", "too_many_images"),
        ({"max_bytes_in_flight": 11}, "MAX_BYTES_IN_FLIGHT", "too_large"),
    ],
)
def test_what_would_never_have_room_is_too_large(limits: dict[str, float], setting: str, code: str) -> None:
    """A request over a bound gets 413 with the bound and its setting, also of an idle service: never 429."""
    with pytest.raises(TooLarge, match=setting) as caught, with_limits(**limits).admit(SLOW, FILES):
        pass
    assert caught.value.code == code


def test_an_image_that_is_done_after_its_request_left_counts_no_more() -> None:
    """The room that it held is given back once."""
    admission = with_limits()
    with admission.admit(SLOW, FILES) as ticket:
        pass
    ticket.finish(is_sample=True)
    with admission.admit(SLOW, FILES):
        assert admission.num_images == 3


def test_a_long_wait_is_refused_with_the_time_to_come_back() -> None:
    """Seven images of a quarter second are a wait of 1.75 s: over a limit of 1 s, and in a second it will be less."""
    admission = with_limits(max_wait_seconds=1)
    with admission.admit(SLOW, [b""] * 4):
        admission.check_wait()
        with admission.admit(SLOW, FILES), pytest.raises(Busy, match=r"7 images .* 1\.8 seconds") as caught:
            admission.check_wait()
    assert caught.value.retry_after_seconds == 1
    with admission.admit(SLOW, [b""] * 40), pytest.raises(Busy) as caught:
        admission.check_wait()
    assert caught.value.retry_after_seconds == 9


def test_an_idle_service_takes_any_request() -> None:
    """A request waits for those before it and not for itself, so that a large one has its turn."""
    with with_limits(max_wait_seconds=1).admit(SLOW, [b""] * 100):
        pass


def test_the_cost_is_learned_from_what_is_done(clock: Clock) -> None:
    """Images that are done every 10 ms bring the guess of 250 ms there, in less than a hundred."""
    admission = with_limits()
    with admission.admit(SLOW, [b""] * 101) as ticket:
        assert admission.wait_seconds == pytest.approx(101 * 0.25)
        work_off(ticket, 100, clock, seconds=0.01)
        assert admission.wait_seconds == pytest.approx(0.01, rel=0.1)


def test_batches_are_learned_whole(clock: Clock) -> None:
    """Twelve images at once every 1.2 s cost 0.1 s each, also right after a batch, when eleven have come at no time."""
    admission = with_limits()
    with admission.admit(SLOW, [b""] * 241) as ticket:
        for _ in range(20):
            work_off(ticket, 1, clock, seconds=1.2)
            work_off(ticket, 11, clock, seconds=0)
        assert admission.wait_seconds == pytest.approx(0.1, rel=0.02)


def test_neither_idle_time_nor_bad_images_count(clock: Clock) -> None:
    """A pause, and a file that blocks a decoder for seconds before it is refused, leave the cost as it was."""
    admission = with_limits()
    clock.now = 100.0
    with admission.admit(SLOW, [b""] * 4) as ticket:
        work_off(ticket, 1, clock, seconds=0.25)
        work_off(ticket, 1, clock, seconds=5, is_sample=False)
        work_off(ticket, 1, clock, seconds=0.25)
        assert admission.wait_seconds == pytest.approx(0.25)


def test_each_model_has_its_cost(clock: Clock) -> None:
    """A fast model's images don't make a slow one's look cheap."""
    admission = with_limits()
    with admission.admit(Work("mdl_fast", 0.01), [b""] * 2) as fast, admission.admit(SLOW, [b""]):
        work_off(fast, 1, clock, seconds=0.01)
        assert admission.wait_seconds == pytest.approx(0.01 + 0.25)
