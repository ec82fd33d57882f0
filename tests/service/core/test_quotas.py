"""What a tenant may have."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from service.core import jobs
from service.core.db import Database
from service.core.errors import QuotaExceeded
from service.core.quotas import Limits, check_gpu_seconds, check_images, check_jobs, gpu_seconds_since
from service.core.settings import Settings
from service.core.tables import Job, Placement
from tests.service.conftest import add_image

HOUR = timedelta(hours=1)


def add_job(session: Session, **columns: object) -> Job:
    job = jobs.submit(session, kind="pretrain", recipe={})
    session.execute(update(Job).where(Job.id == job.id).values(**{"status": "queued", **columns}))
    return job


def add_placement(session: Session, *, began: datetime, ended: datetime | None, **columns: object) -> None:
    fields = {"attempt": 1, "node_rank": 0, "node_name": "a", "slot": "cuda", "num_slots": 1, "token": "t"}
    placed = {"job_id": add_job(session).id, "lease_until": began, "claimed_at": began, "ended_at": ended}
    session.add(Placement(**{**fields, **placed, **columns}))
    session.flush()


def test_images_are_counted_for_each_tenant(database: Database) -> None:
    """The last place may be taken, and what others have takes none; the message has limit and number."""
    with database.of("theirs").transaction() as session:
        for _ in range(3):
            add_image(session)
    with database.transaction() as session:
        for _ in range(2):
            add_image(session)
        check_images(session, Limits(images=2))
        check_images(session, Limits())
        with pytest.raises(QuotaExceeded) as caught:
            check_images(session, Limits(images=1))
    assert caught.value.errors == [{"field": "images", "message": "limit 1, used 2"}]
    assert caught.value.retry_after_seconds


@pytest.mark.parametrize("check", [check_images, check_jobs])
def test_two_requests_cannot_both_take_the_last_place(
    database: Database, check: Callable[[Session, Limits], None]
) -> None:
    """While one that was let in is not at its end, the next one of its tenant waits; those of others don't."""
    limits = Limits(images=1, jobs=1)
    with database.transaction() as first:
        check(first, limits)
        with database.of("theirs").transaction() as other:
            other.execute(text("set local lock_timeout = '5s'"))
            check(other, limits)
        with database.transaction() as second:
            second.execute(text("set local lock_timeout = '50ms'"))
            with pytest.raises(OperationalError, match="lock timeout"):
                check(second, limits)


def test_jobs_count_while_they_are_unfinished(database: Database) -> None:
    """Those of others, those that ended and the parts of an ablation take no place."""
    with database.of("theirs").transaction() as session:
        add_job(session)
    with database.transaction() as session:
        parent = add_job(session)
        for columns in ({"parent_id": parent.id}, {"status": "failed"}, {"status": "running"}):
            add_job(session, **columns)
        check_jobs(session, Limits(jobs=3))
        with pytest.raises(QuotaExceeded, match="the quota jobs is 2 unfinished jobs") as caught:
            check_jobs(session, Limits(jobs=2))
    assert caught.value.errors == [{"field": "jobs", "message": "limit 2, used 2"}]
    assert caught.value.retry_after_seconds


def test_gpu_seconds_are_durations_times_gpus(database: Database) -> None:
    """Of attempts that ended and that go on, from the month's beginning; a CPU, others' and unclaimed ones are free."""
    now = datetime.now(UTC)
    since = now - 10 * HOUR
    with database.of("theirs").transaction() as session:
        add_placement(session, began=now - HOUR, ended=now)
    with database.transaction() as session:
        add_placement(session, began=now - 3 * HOUR, ended=now - HOUR, num_slots=4)  # 8 hours
        add_placement(session, began=now - 20 * HOUR, ended=now - 9 * HOUR)  # 1 of them since then
        add_placement(session, began=now - 20 * HOUR, ended=now - 12 * HOUR)
        add_placement(session, began=now - HOUR, ended=now, slot="cpu")
        add_placement(session, began=now, ended=None, claimed_at=None)
        assert gpu_seconds_since(session, since) == pytest.approx(9 * 3600, abs=1)
        add_placement(session, began=now - HOUR, ended=None)
        assert gpu_seconds_since(session, since) == pytest.approx(10 * 3600, abs=60)


def test_the_month_that_is_used_up_says_when_the_next_begins(database: Database) -> None:
    """Retry-After leads to the first of the next month."""
    with database.transaction() as session:
        add_placement(session, began=datetime.now(UTC) - timedelta(seconds=30), ended=None)
        check_gpu_seconds(session, Limits(gpu_seconds=1_000_000))
        check_gpu_seconds(session, Limits())
        with pytest.raises(QuotaExceeded, match="GPU seconds in this month") as caught:
            check_gpu_seconds(session, Limits(gpu_seconds=0))
    retry_at = datetime.now(UTC) + timedelta(seconds=caught.value.retry_after_seconds or 0)
    assert (retry_at.day, retry_at.hour, retry_at.minute) == (1, 0, 0)
    (error,) = caught.value.errors
    assert (error["field"], error["message"][:16]) == ("gpu_seconds", "limit 0, used 30")


def test_the_service_s_defaults_are_for_keys_that_say_nothing(tmp_path: Path) -> None:
    """A key's own limit wins, a 0 of images too; a setting of 0 is none."""
    defaults = {"quota_images": 10, "quota_jobs": 20, "quota_gpu_seconds": 30}
    settings = Settings.model_validate({"data_dir": tmp_path, "requests_per_second": 5, **defaults})
    assert Limits().over(settings) == Limits(images=10, jobs=20, gpu_seconds=30, requests_per_second=5)
    mine = Limits(images=0, jobs=0, gpu_seconds=0, requests_per_second=1)
    assert mine.over(settings) == mine
    assert Limits().over(Settings(data_dir=tmp_path)) == Limits()


@pytest.mark.parametrize(
    ("mine", "theirs", "wider"),
    [({}, {}, []), ({"jobs": 5}, {"jobs": 5}, []), ({"jobs": 6}, {"jobs": 5}, ["jobs"]), ({}, {"jobs": 5}, ["jobs"])],
)
def test_limits_that_are_wider(mine: dict[str, int], theirs: dict[str, int], wider: list[str]) -> None:
    """No limit is wider than any."""
    assert Limits.model_validate(mine).exceeding(Limits.model_validate(theirs)) == wider
    assert Limits(jobs=0).exceeding(Limits(jobs=0)) == []
