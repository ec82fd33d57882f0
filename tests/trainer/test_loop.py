"""Pretraining as a whole: Algorithm 1, resume, refusal of a diverged run, export."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import trainer.loop
from models.config import Schedule
from models.export import load_model
from models.simclr import SimCLR
from models.variants import FLOORS
from tests.trainer.pretraining import run_folder
from trainer.__main__ import main
from trainer.checkpoint import load_newest_checkpoint, save_checkpoint
from trainer.loop import Interrupted, pretrain
from trainer.optim import learning_rate
from trainer.run import INTERRUPTED, RunError, RunFolder
from trainer.step import Outputs, train_step

CPU = torch.device("cpu")


def never() -> bool:
    return False


def after(num_steps: int) -> Callable[[], bool]:
    """A should_stop that is true at the end of step `num_steps`."""
    calls = itertools.count(1)
    return lambda: next(calls) >= num_steps


def events(run: RunFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.events.read_text().splitlines()]


def test_a_resumed_run_is_bit_equal_to_an_uninterrupted_one(tmp_path: Path) -> None:
    """Stopped after steps 2 and 5 and started again, a run ends with the very weights of one that never stopped."""
    straight = run_folder(tmp_path / "straight")
    pretrain(straight, never)
    stopped = run_folder(tmp_path / "stopped")
    for num_steps in (2, 3):
        with pytest.raises(Interrupted):
            pretrain(stopped, after(num_steps))
        assert not stopped.output.joinpath("model.onnx").exists()
    result = pretrain(stopped, never)
    assert result["steps"] == 6
    one, other = (load_newest_checkpoint(run.checkpoints, CPU) for run in (straight, stopped))
    assert one is not None
    assert other is not None
    assert one["step"] == other["step"] == 6
    for name, w in one["model"].items():
        assert torch.equal(w, other["model"][name]), name


@pytest.mark.parametrize("should_stop", [never, after(6)], ids=["lost in export", "stopped at the end"])
def test_a_run_restarted_after_its_last_step_has_the_same_result(
    tmp_path: Path, should_stop: Callable[[], bool]
) -> None:
    """With no step left, a second process exports again and succeeds, with the first one's loss, time and speed."""
    run = run_folder(tmp_path)
    first = pretrain(run, should_stop)
    shutil.rmtree(run.output)
    run.output.mkdir()
    again = pretrain(run, never)
    run.succeed(again)
    assert (run.output / "model.onnx").exists()
    assert (again["steps"], again["loss"]) == (6, first["loss"])
    assert again["seconds"] == pytest.approx(first["seconds"], abs=0.5)  # of opening the data and the checkpoint
    assert again["images_per_second"] == pytest.approx(6 * 8 / again["seconds"], rel=0.1)


def test_seconds_are_those_of_all_attempts(tmp_path: Path) -> None:
    """A resumed run adds the seconds that its checkpoint tells of to its own."""
    run = run_folder(tmp_path)
    with pytest.raises(Interrupted):
        pretrain(run, after(2))
    state = load_newest_checkpoint(run.checkpoints, CPU)
    assert state is not None
    state["report"]["seconds"] += 1000
    save_checkpoint(run.checkpoints, state.pop("step"), state)
    result = pretrain(run, never)
    assert 1000 < result["seconds"] < 1060
    assert result["images_per_second"] == pytest.approx(6 * 8 / result["seconds"], rel=0.01)


def test_images_of_other_splits_change_no_weight(tmp_path: Path) -> None:
    """Pretraining sees `train` alone: with images in `test` and `val` the weights are the same, bit for bit."""
    states = []
    for num_others in (0, 5):
        run = run_folder(tmp_path / str(num_others), num_others=num_others)
        pretrain(run, never)
        states.append(load_newest_checkpoint(run.checkpoints, CPU))
    one, other = states
    assert one is not None
    assert other is not None
    for name, w in one["model"].items():
        assert torch.equal(w, other["model"][name]), name


def test_a_model_that_is_not_the_trained_one_fails_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process leaves the code `parity` with the measured cosine, and exits without a traceback."""
    run = run_folder(tmp_path, schedule={"epochs": 0, "warmup_epochs": 0})
    monkeypatch.setitem(FLOORS, "float32", 2)
    assert main(run.path) == 1
    error = json.loads(run.error.read_text())
    assert error["code"] == "parity"
    assert "at least 2, not " in error["message"]


def test_a_diverged_run_stops_and_keeps_its_last_good_state(tmp_path: Path) -> None:
    """A loss that is not finite fails with a stable code and the step; nothing is exported."""
    schedule = {"epochs": 30, "warmup_epochs": 0}
    gentle = {"name": "sgd", "learning_rate": 0.001, "scaling": "none", "weight_decay": 1.0}
    run = run_folder(tmp_path / "good", schedule=schedule, optimizer=gentle)
    with pytest.raises(Interrupted):
        pretrain(run, after(2))
    # A rate of 1000 with a weight decay of 1 multiplies every kernel by -999 a step.
    exploding = {**gentle, "learning_rate": 1000}
    diverged = run_folder(tmp_path / "diverged", schedule=schedule, optimizer=exploding)
    for path in run.checkpoints.iterdir():
        path.rename(diverged.checkpoints / path.name)
    good = (diverged.checkpoints / "step-00000002.pt").read_bytes()
    with pytest.raises(RunError, match=r"(loss is (nan|inf) at|not finite after) step \d+ of 60") as failure:
        pretrain(diverged, never)
    assert failure.value.code == "non_finite_loss"
    assert (diverged.checkpoints / "step-00000002.pt").read_bytes() == good
    assert list(diverged.output.iterdir()) == []


def test_no_epochs_export_the_initialisation(tmp_path: Path) -> None:
    """With epochs 0 the exported weights are those that the seed gives."""
    run = run_folder(tmp_path, schedule={"epochs": 0, "warmup_epochs": 0}, seed=3)
    result = pretrain(run, never)
    exported, recipe = load_model(run.output)
    torch.manual_seed(3)
    fresh = SimCLR(recipe)
    for name, w in fresh.state_dict().items():
        assert torch.equal(w, exported.state_dict()[name]), name
    assert result["steps"] == 0
    assert result["model"]["parity_cosine"] > 0.999


def test_the_model_remembers_how_its_images_were_stored(tmp_path: Path) -> None:
    """The exported preprocessing has the data set's storage side, whatever the recipe said."""
    run = run_folder(tmp_path, schedule={"epochs": 0, "warmup_epochs": 0})
    assert pretrain(run, never)["model"]["preprocessing"]["storage_side"] == 48


def test_progress_is_told(tmp_path: Path) -> None:
    """The last metrics event has the last step, a finite loss and a rate that the schedule gives."""
    run = run_folder(tmp_path)
    pretrain(run, never)
    last = [event for event in events(run) if event["type"] == "metrics"][-1]
    assert (last["step"], last["steps"], last["epoch"], last["epochs"]) == (6, 6, 3.0, 3)
    assert last["images_per_second"] > 0
    assert last["eta_seconds"] == 0
    # Step 5 of 2 warm-up and 4 cosine steps: 0.5 * 0.5 * (1 + cos(3 pi / 4)).
    assert last["learning_rate"] == pytest.approx(0.5 * 0.5 * (1 - 2**-0.5))


def test_the_optimizer_follows_the_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step is taken at the rate of warm-up and cosine, not only reported so."""
    rates = []

    def step(model: SimCLR, optimizer: torch.optim.Optimizer, *arguments: Any) -> Outputs:
        rates.append([group["lr"] for group in optimizer.param_groups])
        return train_step(model, optimizer, *arguments)

    monkeypatch.setattr(trainer.loop, "train_step", step)
    run = run_folder(tmp_path)
    pretrain(run, never)
    schedule = Schedule.model_validate(run.spec().recipe["schedule"])
    expected = [learning_rate(step, peak=0.5, schedule=schedule, steps_per_epoch=2) for step in range(6)]
    assert rates == [[rate, rate] for rate in expected]
    assert len(set(expected)) > 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_run_on_cuda_is_resumed_and_exported(tmp_path: Path) -> None:
    """Stopped after step 2 and started again, it ends, and its encoder is the exported one."""
    run = run_folder(tmp_path, precision="bfloat16")
    run.create(run.spec().model_copy(update={"device": "cuda"}))
    with pytest.raises(Interrupted):
        pretrain(run, after(2))
    result = pretrain(run, never)
    assert result["steps"] == 6
    assert result["model"]["parity_cosine"] > 0.999


def test_a_batch_larger_than_the_data_is_refused(tmp_path: Path) -> None:
    """The message names the field and the number of training images."""
    with pytest.raises(RunError, match=r"recipe\.batch_size: at most the 20 training images"):
        pretrain(run_folder(tmp_path, batch_size=21), never)


@pytest.mark.parametrize("kind", ["pretrain", "export"])
def test_a_gpu_that_cannot_be_used_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    """The process leaves the code `no_gpu`, torch's words and what to do, and exits without a traceback."""
    run = run_folder(tmp_path)
    run.create(run.spec().model_copy(update={"kind": kind, "device": "cuda"}))
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "trainer", str(run.path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    error = json.loads(run.error.read_text())
    assert error["code"] == "no_gpu"
    assert f"PyTorch {torch.__version__} can't use the job's GPU (" in error["message"]
    assert 'set resources.device to "cpu"' in error["message"]


def test_a_gpu_that_is_full_at_the_start_is_out_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By `rank_oom`, though before the first allocation CUDA's error is a RuntimeError."""
    run = run_folder(tmp_path)
    run.create(run.spec().model_copy(update={"device": "cuda"}))

    def ones(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(torch, "ones", ones)
    assert main(run.path) == 1
    assert json.loads(run.error.read_text())["code"] == "rank_oom"


def test_sigterm_checkpoints_and_exits_with_its_status(tmp_path: Path) -> None:
    """The process told to stop leaves a checkpoint and the status that asks for another attempt."""
    run = run_folder(tmp_path, schedule={"epochs": 100_000, "warmup_epochs": 0})
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "trainer", str(run.path)], env=environment)
    deadline = time.monotonic() + 60
    while not run.events.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == INTERRUPTED
    assert load_newest_checkpoint(run.checkpoints, CPU) is not None
    assert not run.result.exists()
