"""Metrics as columns, thinned for a picture."""

from service.metrics import thinned


def test_few_points_stay_as_they_are() -> None:
    """No row is touched where there are no more than asked for; none at all is no error."""
    rows = [{"step": step, "loss": 1.0 / step} for step in range(1, 6)]
    assert thinned(rows, 5) == rows
    assert thinned([], 5) == []


def test_the_last_step_and_seldom_measures_survive() -> None:
    """Of 1,003 rows, 100 are left with the very last; what one row of ten has, each of them has, not from afar."""
    rows: list[dict[str, float | str | None]] = [{"step": step} for step in range(1003)]
    for step in range(3, 1003, 10):
        rows[step]["entropy"] = step
    found = thinned(rows, 100)
    assert len(found) == 100
    assert found[-1]["step"] == 1002
    steps = [row["step"] for row in found]
    assert steps == sorted(set(steps), key=int)
    gaps = [row["step"] - row["entropy"] for row in found if "entropy" in row]  # type: ignore[operator]
    assert len(gaps) >= 99
    assert all(0 <= gap <= 10 for gap in gaps)
