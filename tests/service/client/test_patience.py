"""What a client sends again, and when."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.client import ApiError
from tests.service.client.conftest import Ask, Clock

BUSY = {"type": "", "title": "", "status": 503, "code": "busy", "detail": "later"}
JOB = {"id": "job_1", "kind": "pretrain", "status": "queued"}


class Played:
    """A service that answers with each of `answers` in turn, then with the last one, and notes what it was asked."""

    def __init__(self, *answers: httpx.Response | httpx.TransportError) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        assert len(self.requests) < 50, "it asks without end"
        answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
        if isinstance(answer, httpx.TransportError):
            raise answer
        return answer


def busy(status: int = 503, **headers: str) -> httpx.Response:
    sent = {"content-type": "application/problem+json", **{k.replace("_", "-"): v for k, v in headers.items()}}
    return httpx.Response(status, json=BUSY, headers=sent)


def good() -> httpx.Response:
    return httpx.Response(200, json=JOB)


def get_job(client: Any) -> Any:
    return client.get_job("job_1")


@pytest.mark.parametrize("status", [429, 503])
def test_it_waits_for_as_long_as_it_is_told(ask: Ask, clock: Clock, status: int) -> None:
    """Retry-After is the least wait before the next request, up to a quarter more; the answer is the third one's."""
    service = Played(busy(status, retry_after="3"), busy(status, retry_after="7"), good())
    assert ask(service, get_job) == JOB
    assert len(service.requests) == 3
    for told, slept in zip([3, 7], clock.slept, strict=True):
        assert told <= slept <= 1.25 * told


def test_without_a_word_it_waits_longer_each_time(ask: Ask, clock: Clock) -> None:
    """Half a second, one, two, ...: at least, and eight at most."""
    service = Played(*[busy(429)] * 6, good())
    assert ask(service, get_job) == JOB
    for least, slept in zip([0.5, 1, 2, 4, 8, 8], clock.slept, strict=True):
        assert least <= slept <= 1.25 * least


def test_its_patience_ends(ask: Ask, clock: Clock) -> None:
    """Of a service that stays busy the problem is told once no further wait fits into the time."""
    service = Played(busy(retry_after="5"))
    with pytest.raises(ApiError, match="later") as failure:
        ask(service, get_job, retry_seconds=20)
    assert failure.value.status == 503
    assert len(service.requests) in {4, 5}
    assert 20 - 6.25 < clock.now <= 20


@pytest.mark.parametrize(
    "operation",
    [
        lambda client, path: client.request("POST", "/v1/jobs", json={}),
        lambda client, path: client.create_dataset(path),
        lambda client, path: client.roll_back_alias("production"),
        lambda client, path: client.resume_job("job_1"),
    ],
)
def test_what_could_happen_twice_is_sent_once(
    ask: Ask, clock: Clock, tmp_path: Path, operation: Callable[[Any, Path], Any]
) -> None:
    """A POST without a key isn't repeated, neither when the service is busy nor when the connection breaks."""
    archive = tmp_path / "a.zip"
    archive.write_bytes(b"PK")
    service = Played(busy(retry_after="1"), good())
    with pytest.raises(ApiError):
        ask(service, lambda client: operation(client, archive))
    broken = Played(good(), httpx.ReadError("reset"), good())
    with pytest.raises(httpx.ReadError):
        ask(broken, get_job, lambda client: operation(client, archive))
    assert (len(service.requests), len(broken.requests), clock.slept) == (1, 2, [])


def test_a_job_is_submitted_again_under_its_key(ask: Ask, clock: Clock) -> None:
    """Each submission has a key of its own, and keeps it; one's own key is sent as it is."""
    service = Played(good(), httpx.ReadError("reset"), good(), busy(retry_after="1"), good())

    def submit(client: Any, **key: str) -> Any:
        return client.submit("pretrain", dataset_id="ds_1", **key)

    ask(service, submit, submit, submit, lambda client: submit(client, idempotency_key="mine"))
    first, second, again, third, repeated, mine = (r.headers["Idempotency-Key"] for r in service.requests)
    assert second == again
    assert third == repeated
    assert len({first, second, third}) == 3
    assert mine == "mine"


def test_a_service_that_answered_before_is_waited_for(ask: Ask, clock: Clock) -> None:
    """While it starts again, connections are refused: a question is asked until it answers."""
    service = Played(good(), httpx.ConnectError("refused"), httpx.ConnectError("refused"), good())
    assert ask(service, get_job, get_job) == JOB
    assert len(clock.slept) == 2


def test_a_service_that_never_answered_is_not(ask: Ask, clock: Clock) -> None:
    """Most likely nobody is there: that is told at once."""
    service = Played(httpx.ConnectError("refused"))
    with pytest.raises(httpx.ConnectError):
        ask(service, get_job)
    assert (len(service.requests), clock.slept) == (1, [])


def test_other_problems_are_told_at_once(ask: Ask, clock: Clock) -> None:
    """A question that is wrong stays wrong."""
    service = Played(busy(422, retry_after="1"))
    with pytest.raises(ApiError):
        ask(service, get_job)
    assert (len(service.requests), clock.slept) == (1, [])
