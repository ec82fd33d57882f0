"""Two worker nodes, real processes, real training: every part is killed once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CHAOS = Path(__file__).resolve().parent.parent / "benchmarks" / "chaos.py"


@pytest.mark.slow
def test_nothing_is_lost_doubled_or_changed_when_parts_are_killed(tmp_path: Path) -> None:
    """A rank, a launcher, a worker, Redis, PostgreSQL and the API: every job ends once, training with the same loss."""
    out = tmp_path / "chaos.json"
    run = subprocess.run(
        [sys.executable, CHAOS, "--each", "1", "--out", out], capture_output=True, text=True, timeout=600, check=False
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    figures = json.loads(out.read_text())
    assert (figures["lost"], figures["duplicated"], figures["orphans"]) == (0, 0, 0)
    assert figures["loss_equal"]
    assert figures["jobs"] > 20
    assert all(len(found) == 1 for found in figures["recovery_seconds_all"].values())
