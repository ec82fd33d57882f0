"""A run that has diverged is refused by the step at which it did."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from models.config import Loss
from trainer.monitor import measures
from trainer.report import Report
from trainer.run import RunError, RunFolder


def report(folder: Path) -> Report:
    return Report(
        RunFolder(folder),
        batch_size=8,
        epochs=3,
        first_step=4,
        steps=100,
        steps_per_epoch=10,
        remedy="lower optimizer.learning_rate",
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_first_bad_step_is_named_however_late_it_is_seen(tmp_path: Path, bad: float) -> None:
    """Losses are read once a second; the reason names the step that diverged, not the newest."""
    told = report(tmp_path)
    for step, loss in enumerate([2.0, 1.0, bad, bad, 3.0], start=4):
        told.step(step, torch.tensor(loss), rate=0.1)
    with pytest.raises(
        RunError, match=rf"the loss is {bad} at step 7 of 100; lower optimizer.learning_rate"
    ) as failure:
        told.refuse_non_finite_loss()
    assert failure.value.code == "non_finite_loss"
    assert failure.value.details == {"step": 7}
    assert told.last_loss == 1.0


def test_finite_losses_are_read_once(tmp_path: Path) -> None:
    """The last of them is the run's loss, and the next look starts after it."""
    told = report(tmp_path)
    for step, loss in enumerate([2.0, 1.5], start=4):
        told.step(step, torch.tensor(loss), rate=0.1)
    told.refuse_non_finite_loss()
    assert told.last_loss == 1.5
    told.step(6, torch.tensor(torch.nan), rate=0.1)
    with pytest.raises(RunError, match="at step 7 of 100"):
        told.refuse_non_finite_loss()


@pytest.mark.parametrize("name", ["weight", "running_var"])
def test_weights_spoilt_by_a_finite_loss_are_refused(tmp_path: Path, name: str) -> None:
    """An update can overflow though its loss didn't; such a model isn't checkpointed."""
    model = nn.BatchNorm1d(3)
    told = report(tmp_path)
    told.refuse_non_finite_weights(model)
    dict(model.state_dict())[name][1] = torch.inf
    told.step(4, torch.tensor(1.0), rate=0.1)
    with pytest.raises(RunError, match="weights are not finite after step 5 of 100"):
        told.refuse_non_finite_weights(model)


def test_speed_and_time_left_are_of_the_last_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three steps of 8 images in two seconds are 12 images/s; the 93 steps left take 62 seconds."""
    clock = iter([100.0, 100.4, 100.8, 101.9, 102.0, 102.0, 102.0])  # the last ones after the wait for the device
    monkeypatch.setattr("trainer.report.time.monotonic", lambda: next(clock))
    told = report(tmp_path)
    for step in range(4, 7):
        told.step(step, torch.tensor(1.0), rate=0.1)
    (line,) = told.run.events.read_text().splitlines()
    event = json.loads(line)
    assert (event["step"], event["images_per_second"], event["eta_seconds"]) == (7, 12.0, 62.0)


def test_measures_are_taken_now_and_then_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the first report, again ten seconds later, and of the last step, whose are the run's."""
    now = 100.0
    monkeypatch.setattr("trainer.report.time.monotonic", lambda: now)
    told = report(tmp_path)
    for step, at in ((4, 102.0), (5, 104.0), (6, 111.0), (7, 112.5), (99, 113.0)):
        now = at
        told.step(step, torch.tensor(1.0), rate=0.1, measure=lambda: measures(torch.eye(6, 4), torch.eye(6, 3), Loss()))
    events = [json.loads(line) for line in told.run.events.read_text().splitlines()]
    assert [("contrastive_accuracy" in event, event["step"]) for event in events] == [
        (True, 5),
        (False, 6),
        (False, 7),
        (True, 8),
        (True, 100),
    ]
    assert told.state()["measures"] == {name: events[-1][name] for name in told.state()["measures"]}
    assert told.state()["measures"].keys() >= {"entropy", "alignment", "effective_rank_h"}
