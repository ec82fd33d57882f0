"""Events are read line by line, and progress says how long it will take."""

from pathlib import Path

import pytest

from trainer.relay import MAX_EVENTS, EventTail, progress_of


def test_a_half_written_line_waits_for_its_rest(tmp_path: Path) -> None:
    """An event counts once its newline is there, and only once."""
    path = tmp_path / "events.jsonl"
    tail = EventTail(path)
    assert tail.pending() == []
    path.write_text('{"type": "warning", "code": "a"}\n{"type": "warn')
    assert tail.pending() == [("warning", {"code": "a"})]
    tail.relayed(1)
    assert tail.pending() == []
    with path.open("a") as file:
        file.write('ing", "code": "b"}\n')
    assert tail.pending() == [("warning", {"code": "b"})]


def test_a_flood_of_events_comes_in_parts(tmp_path: Path) -> None:
    """No transaction stores more than MAX_EVENTS; the order stays."""
    path = tmp_path / "events.jsonl"
    path.write_text("".join(f'{{"type": "metrics", "i": {i}}}\n' for i in range(MAX_EVENTS + 3)))
    tail = EventTail(path)
    first = tail.pending()
    tail.relayed(len(first))
    second = tail.pending()
    assert [data["i"] for _, data in first] == list(range(MAX_EVENTS))
    assert [data["i"] for _, data in second] == [MAX_EVENTS, MAX_EVENTS + 1, MAX_EVENTS + 2]


def test_the_time_left_is_the_steps_left_at_the_pace_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From step 100 at 0 s and 120 at 10 s, the 80 steps to 200 take 40 s; a new stage begins a new pace."""
    clock = iter([0.0, 10.0, 11.0, 15.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    path = tmp_path / "events.jsonl"
    steps = [("training", 100, 200), ("training", 120, 200), ("export", 0, 2), ("export", 1, 2)]
    lines = [f'{{"type": "stage", "stage": "{stage}", "step": {i}, "steps": {n}}}\n' for stage, i, n in steps]
    path.write_text("".join(lines))
    events = EventTail(path).pending()
    assert [data["eta_seconds"] for _, data in events] == [None, 40.0, None, 4.0]
    assert progress_of(events) == {"stage": "export", "step": 1, "steps": 2, "eta_seconds": 4.0}


def test_a_time_left_that_the_process_knows_is_kept(tmp_path: Path) -> None:
    """The process's own eta_seconds wins."""
    path = tmp_path / "events.jsonl"
    path.write_text('{"type": "metrics", "step": 1, "steps": 2, "eta_seconds": 7}\n')
    assert progress_of(EventTail(path).pending()) == {"step": 1, "steps": 2, "eta_seconds": 7}


def test_events_without_steps_are_no_progress() -> None:
    """The progress stays as it was."""
    assert progress_of([("warning", {"code": "x"})]) is None
