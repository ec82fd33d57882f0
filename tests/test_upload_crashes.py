"""The API and PostgreSQL are killed in the middle of uploads."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "upload_crashes.py"


def test_no_acknowledged_upload_is_lost_or_half_there() -> None:
    """After kill -9 of both, every acknowledged image has row, bytes and vector, and nothing else is half there."""
    run = subprocess.run(
        [sys.executable, SCRIPT, "--rounds", "1"], capture_output=True, text=True, timeout=200, check=False
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-3000:]
    figures = json.loads(run.stdout)
    assert figures["acknowledged"] > 8
    assert figures["failed"] > 0  # it was hit in the middle
    assert (figures["lost"], figures["incomplete"], figures["vectors_without_row"]) == (0, 0, 0)
