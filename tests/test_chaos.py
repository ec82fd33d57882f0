"""Two worker nodes, real processes, real training: a worker and PostgreSQL are killed. `make chaos` has all faults."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CHAOS = Path(__file__).resolve().parent.parent / "benchmarks" / "chaos.py"
FAULTS = ("postgres", "worker")


@pytest.mark.slow
def test_nothing_is_lost_doubled_or_changed_when_parts_are_killed(tmp_path: Path) -> None:
    """Every job ends once, no process is left, and training ends with the weights of an undisturbed one."""
    out = tmp_path / "chaos.json"
    command = [sys.executable, CHAOS, "--faults", *FAULTS, "--out", out]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-3000:]
    summary = json.loads(out.read_text())
    assert json.loads(run.stdout.splitlines()[-1]) == summary
    assert summary["met"] == summary["promises"] > 8
    figures = summary["figures"]
    assert (figures["lost_jobs"], figures["doubled_jobs"], figures["orphans"]) == (0, 0, 0)
    assert figures["bit_exact_trainings"].startswith(f"{len(figures['attempts'])} of ")
    assert sum(figures["attempts"]) > len(figures["attempts"])  # the worker's death cost an attempt
    assert figures["recovery_seconds"].keys() == set(FAULTS)
