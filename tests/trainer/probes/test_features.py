"""Frozen features against the network called by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

import trainer.probes.features
from models.config import pretrain_recipe
from models.simclr import SimCLR
from tests.trainer.probes.run_folders import events, noisy_images, write_model, write_pack
from trainer.pack import Pack
from trainer.probes.features import FrozenModel, extract, probe_data
from trainer.probes.progress import StageProgress
from trainer.run import RunError, RunFolder, RunSpec

RECIPE = pretrain_recipe({"preset": "cpu-small", "preprocessing": {"image_size": 16}})
LABELS = [0, 1, 2] * 5
SPLITS = ["train"] * 9 + ["test"] * 6


def trained_model() -> SimCLR:
    """A network whose batch norm has seen data."""
    torch.manual_seed(0)
    model = SimCLR(RECIPE)
    model(torch.rand(8, 3, 16, 16))
    return model.eval()


def make_run(path: Path) -> RunFolder:
    run = RunFolder(path)
    run.create(RunSpec(kind="knn_probe", recipe={}))
    write_pack(run.dataset, noisy_images(LABELS, noise=40, seed=1), LABELS, SPLITS, ["ant", "bee", "cat"])
    write_model(run.model, trained_model(), RECIPE)
    return run


def test_features_are_h_in_eval_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In batches of any size, h is what the encoder gives for an image alone, in the pack's order, with its label."""
    monkeypatch.setattr(trainer.probes.features, "BATCH_SIZE", 4)
    run = make_run(tmp_path)
    data = probe_data(run, "h")
    model, pack = trained_model(), Pack.open(run.dataset)
    for features, positions in ((data.train, range(9)), (data.test, range(9, 15))):
        inputs = [trainer.probes.features.model_inputs(pack, np.array([i]), RECIPE.preprocessing) for i in positions]
        with torch.no_grad():
            alone = [model(torch.from_numpy(x).permute(0, 3, 1, 2) / 255)[0] for x in inputs]
        torch.testing.assert_close(features.h, torch.cat(alone), rtol=1e-4, atol=1e-6)
        assert features.h.dtype == torch.float32
        assert features.labels.tolist() == [LABELS[i] for i in positions]
    assert data.classes == ("ant", "bee", "cat")
    assert data.test_split == "test"


def test_any_layer_can_be_probed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The features of layer2.0 are its module's output averaged over the positions, in the pack's order."""
    monkeypatch.setattr(trainer.probes.features, "BATCH_SIZE", 4)
    run = make_run(tmp_path)
    data = probe_data(run, "layer2.0")
    model, pack, seen = trained_model(), Pack.open(run.dataset), []
    dict(model.encoder.named_modules())["layer2.0"].register_forward_hook(lambda *call: seen.append(call[2]))
    inputs = trainer.probes.features.model_inputs(pack, np.arange(15), RECIPE.preprocessing)
    with torch.no_grad():
        model(torch.from_numpy(inputs).permute(0, 3, 1, 2) / 255)
    expected = seen[0].mean(dim=(2, 3))
    torch.testing.assert_close(torch.cat([data.train.h, data.test.h]), expected, rtol=1e-4, atol=1e-6)


def test_an_unknown_layer_is_refused_with_those_there_are(tmp_path: Path) -> None:
    """The error names the layers of the model."""
    with pytest.raises(RunError, match=r"stem, layer1\.0, layer2\.0, layer3\.0, h, g1, z; not 'layer4\.0'") as refused:
        probe_data(make_run(tmp_path), "layer4.0")
    assert refused.value.code == "unknown_layer"


def test_the_network_stays_as_it_is(tmp_path: Path) -> None:
    """Parameters and batch norm's buffers are bit for bit the same before and after."""
    run = make_run(tmp_path)
    frozen, pack = FrozenModel.load(run, []), Pack.open(run.dataset)
    model = frozen.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    progress = StageProgress(run, "features", len(pack))
    extract(frozen, pack, np.arange(len(pack)), model.layer_names, progress)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(p.grad is not None for p in model.parameters())


def test_progress_counts_images_over_both_splits(tmp_path: Path) -> None:
    """The stage `features` begins at 0 and ends at the number of images."""
    run = make_run(tmp_path)
    probe_data(run, "h")
    told = [(e["stage"], e["step"], e["steps"]) for e in events(run)]
    assert told[0] == ("features", 0, 15)
    assert told[-1] == ("features", 15, 15)
