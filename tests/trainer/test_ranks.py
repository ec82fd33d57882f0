"""Two ranks train one model through its run folder: their ends, resume with as many ranks or fewer, lost peers."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.gang import start_ranks, statuses
from tests.trainer.pretraining import run_folder
from tests.waiting import wait_until
from trainer.checkpoint import load_newest_checkpoint
from trainer.loop import pretrain
from trainer.ranks import Ranks
from trainer.run import INTERRUPTED, PEER_GONE, PEER_SILENT, RunError, RunFolder

CPU = torch.device("cpu")
ENDLESS = {"epochs": 100_000, "warmup_epochs": 0}
IMPATIENT = """
import sys
from pathlib import Path
from trainer.__main__ import main
sys.exit(main(Path(sys.argv[1]), collective_seconds=3))
"""
STOPPED_BY_RANK_1 = """
import itertools, sys
from pathlib import Path
from trainer.loop import Interrupted, pretrain
from trainer.ranks import joined
from trainer.run import RunFolder
calls = itertools.count(1)
with joined("cpu") as ranks:
    try:
        pretrain(RunFolder(Path(sys.argv[1])), lambda: next(calls) == 3 and ranks.rank == 1, ranks)
    except Interrupted:
        sys.exit(75)
"""


def newest(run: RunFolder) -> dict[str, Any]:
    state = load_newest_checkpoint(run.checkpoints, CPU)
    assert state is not None
    return state


def start(run: RunFolder) -> list[subprocess.Popen[str]]:
    return start_ranks(2, "-m", "trainer", str(run.path))


def assert_close(ours: RunFolder, expected: RunFolder, *, rtol: float, atol: float) -> None:
    one, other = newest(ours), newest(expected)
    assert one["step"] == other["step"]
    for name, w in other["model"].items():
        torch.testing.assert_close(one["model"][name], w, rtol=rtol, atol=atol, msg=lambda m, name=name: f"{name}: {m}")


def test_a_killed_run_goes_on_bit_by_bit(tmp_path: Path) -> None:
    """After SIGKILL of rank 1 the other ends at once; both started again end with an uninterrupted run's weights."""
    changes: dict[str, Any] = {"schedule": {"epochs": 30, "warmup_epochs": 1}, "checkpoint_every_seconds": 1}
    straight, killed = run_folder(tmp_path / "straight", **changes), run_folder(tmp_path / "killed", **changes)
    assert statuses(start(straight))[0] == [0, 0]
    ranks = start(killed)
    wait_until(lambda: list(killed.checkpoints.glob("*.json")), 60)
    ranks[1].kill()
    killed_at = time.monotonic()
    codes, errors = statuses(ranks)
    assert time.monotonic() - killed_at < 10
    assert codes == [PEER_GONE, -signal.SIGKILL]
    assert errors[0].startswith("another rank is gone: ")
    assert not killed.error.exists()
    assert 0 < newest(killed)["step"] < 60

    assert statuses(start(killed))[0] == [0, 0]
    assert_close(killed, straight, rtol=0, atol=0)
    assert json.loads(killed.result.read_text())["steps"] == 60
    assert (killed.output / "model.onnx").exists()


def test_one_rank_goes_on_where_two_stopped(tmp_path: Path) -> None:
    """Rank 1 asks to stop after step 3: both do. One process takes over, and ends as if it had trained alone."""
    gentle = {"learning_rate": 0.01, "scaling": "none"}  # at 0.5 six steps multiply float32's rounding by 10,000
    alone, run = (run_folder(tmp_path / name, optimizer=gentle) for name in ("alone", "both"))
    pretrain(alone, lambda: False)
    assert statuses(start_ranks(2, "-c", STOPPED_BY_RANK_1, str(run.path)))[0] == [INTERRUPTED, INTERRUPTED]
    assert newest(run)["step"] == 3
    pretrain(run, lambda: False)
    assert newest(run)["step"] == 6
    assert_close(run, alone, rtol=1e-3, atol=1e-4)  # float32: sums over ranks round otherwise


def test_sigterm_on_one_rank_stops_all(tmp_path: Path) -> None:
    """Told to stop, rank 1 takes the other along: a checkpoint, INTERRUPTED on both, and no result."""
    run = run_folder(tmp_path, schedule=ENDLESS)
    ranks = start(run)
    wait_until(run.events.exists, 60)
    ranks[1].send_signal(signal.SIGTERM)
    assert statuses(ranks, 30)[0] == [INTERRUPTED, INTERRUPTED]
    assert newest(run)["step"] > 0
    assert not run.result.exists()


def test_a_silent_rank_is_given_up(tmp_path: Path) -> None:
    """Rank 1 stands still: the other waits as long as collective operations may take, and ends with PEER_SILENT."""
    run = run_folder(tmp_path, schedule=ENDLESS)
    ranks = start_ranks(2, "-c", IMPATIENT, str(run.path))
    wait_until(run.events.exists, 60)
    ranks[1].send_signal(signal.SIGSTOP)
    assert ranks[0].wait(timeout=15) == PEER_SILENT
    ranks[1].kill()
    assert statuses(ranks)[1][0].startswith("another rank did not answer in time: ")


def test_divergence_ends_all_ranks(tmp_path: Path) -> None:
    """The first rank leaves the reason; the other follows."""
    exploding = {"name": "sgd", "learning_rate": 1000, "scaling": "none", "weight_decay": 1.0}
    run = run_folder(tmp_path, schedule=ENDLESS, optimizer=exploding)
    assert statuses(start(run))[0] == [1, PEER_GONE]
    assert json.loads(run.error.read_text())["code"] == "non_finite_loss"


def test_torchrun_starts_it(tmp_path: Path) -> None:
    """Without the service: torchrun's own environment is all that it takes."""
    run = run_folder(tmp_path)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*torchrun, "-m", "trainer", str(run.path)], check=True, timeout=60, capture_output=True)
    assert json.loads(run.result.read_text())["steps"] == 6


def test_a_batch_that_cannot_be_shared_out_is_refused(tmp_path: Path) -> None:
    """The message names the field and the number of processes."""
    run = run_folder(tmp_path)
    with pytest.raises(
        RunError, match=r"recipe\.batch_size: a multiple of the 3 processes that train, not 8"
    ) as refusal:
        pretrain(run, lambda: False, Ranks(rank=0, size=3))
    assert refusal.value.code == "invalid_recipe"
