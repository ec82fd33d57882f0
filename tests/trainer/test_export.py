"""Export as a job: a model's files anew from its weights."""

import json
from pathlib import Path

import pytest

from models.variants import FLOORS
from tests.trainer.pretraining import run_folder
from trainer.__main__ import main
from trainer.loop import pretrain
from trainer.run import RunFolder, RunSpec


def test_a_model_is_exported_anew_from_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new files are of the very weights; a variant below its floor is a warning with the reason, and no file."""
    pretrained = run_folder(tmp_path / "pretrain", schedule={"epochs": 0, "warmup_epochs": 0})
    trained = pretrain(pretrained, lambda: False)
    assert trained is not None
    run = RunFolder(tmp_path / "export")
    run.create(RunSpec(kind="export", recipe={"variants": ["int8"], "num_calibration_images": 3}))
    for source, folder in ((pretrained.dataset, run.dataset), (pretrained.output, run.model)):
        for path in source.iterdir():
            (folder / path.name).symlink_to(path)
    monkeypatch.setitem(FLOORS, "int8", 2)
    assert main(run.path) == 0
    model = json.loads(run.result.read_text())["model"]
    assert model["encoder_sha256"] == trained["model"]["encoder_sha256"]
    assert model["recipe"] == trained["model"]["recipe"]
    assert (run.output / "model.onnx").exists()
    assert not (run.output / "model-int8.onnx").exists()
    events = [json.loads(line) for line in run.events.read_text().splitlines()]
    [warning] = [event for event in events if event["type"] == "warning"]
    assert warning["code"] == "variant_refused"
    assert warning["message"] == model["variants"]["int8"]["reason"]
    assert warning["message"].startswith("int8: cosine of h to the trained network's: at least 2, not ")
