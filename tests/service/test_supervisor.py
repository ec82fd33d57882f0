import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from service import supervisor
from service.process import ChildProcess, StartFailed
from service.supervisor import Supervisor
from tests.waiting import wait_until

STAYS = 'echo started >> {log}; trap "echo stopped >> {log}; exit" TERM; while :; do sleep 0.02; done'


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restart after 0.02, 0.04, ... s."""
    monkeypatch.setattr(supervisor, "FIRST_DELAY_SECONDS", 0.02)


def program(name: str, folder: Path) -> ChildProcess:
    """A child that was not started yet."""
    return ChildProcess(
        name,
        folder / f"{name}.log",
        stop_signal=signal.SIGTERM,
        on_parent_death=signal.SIGKILL,
        stop_timeout_seconds=10,
    )


def start_shell(process: ChildProcess, script: str) -> Callable[[], None]:
    """What starts `process` as a shell that runs `script`."""
    return partial(process.start, ["bash", "-c", script])


def test_a_part_that_ends_is_started_again(tmp_path: Path) -> None:
    """Also when it ended well: the parts are to run for ever."""
    supervised, part = Supervisor(), program("part", tmp_path)
    supervised.start(
        part, start_shell(part, f"echo run >> {tmp_path}/runs; [ $(wc -l < {tmp_path}/runs) = 3 ] && exec sleep 60")
    )

    def third_run() -> bool:
        supervised.check()
        return (tmp_path / "runs").exists() and (tmp_path / "runs").read_text().count("run") == 3

    wait_until(third_run)
    assert part.exit_status() is None
    supervised.stop()
    assert part.exit_status() == -signal.SIGTERM


def test_a_part_that_keeps_ending_is_given_up(tmp_path: Path) -> None:
    """After five ends in a row the message names the part, how it ended and its log; the delays double meanwhile."""
    supervised, part = Supervisor(), program("part", tmp_path)
    started = time.monotonic()
    supervised.start(part, start_shell(part, f"echo run >> {tmp_path}/runs; exit 7"))
    with pytest.raises(StartFailed, match=r"^part ended 5 times in a row, now with status 7; see .*part\.log$"):
        wait_until(supervised.check)
    assert time.monotonic() - started > 0.02 + 0.04 + 0.08 + 0.16
    assert (tmp_path / "runs").read_text().count("run") == 5


def test_a_part_that_ran_for_long_starts_counting_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One end a day is never a reason to give up."""
    monkeypatch.setattr(supervisor, "STEADY_SECONDS", 0)
    supervised, part = Supervisor(), program("part", tmp_path)
    supervised.start(part, start_shell(part, f"echo run >> {tmp_path}/runs; exit 7"))

    def seventh_run() -> bool:
        supervised.check()
        return (tmp_path / "runs").exists() and (tmp_path / "runs").read_text().count("run") == 7

    wait_until(seventh_run)
    supervised.stop()


def test_parts_stop_in_reverse_order_one_after_the_other(tmp_path: Path) -> None:
    """What a part needs is there until it has ended."""
    order = tmp_path / "order"
    supervised = Supervisor()
    for name in ("first", "second"):
        part = program(name, tmp_path)
        supervised.start(
            part,
            start_shell(
                part,
                STAYS.format(log=order).replace("started", f"{name} started").replace("stopped", f"{name} stopped"),
            ),
        )
        wait_until(lambda name=name: order.exists() and f"{name} started" in order.read_text())
    supervised.stop()
    assert order.read_text().splitlines() == ["first started", "second started", "second stopped", "first stopped"]


def test_a_part_whose_start_is_interrupted_is_stopped_too(tmp_path: Path) -> None:
    """Ctrl-C may come while PostgreSQL is still recovering."""
    supervised, part = Supervisor(), program("part", tmp_path)

    def interrupted_start() -> None:
        part.start(["sleep", "60"])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        supervised.start(part, interrupted_start)
    supervised.stop()
    assert part.exit_status() == -signal.SIGTERM
