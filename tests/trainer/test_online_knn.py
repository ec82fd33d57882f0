"""The kNN probe during pretraining sees training images alone, and leaves training as it is."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from models.config import pretrain_recipe
from models.simclr import SimCLR
from tests.trainer.pretraining import RECIPE, run_folder
from trainer.data import model_inputs
from trainer.loop import pretrain
from trainer.online_knn import OnlineKnn
from trainer.pack import Pack
from trainer.run import RunError

EVERY_EPOCH = {"knn_every_epochs": 1}


def test_it_is_told_at_its_epochs_and_at_the_end(tmp_path: Path) -> None:
    """Of three epochs of two steps, every second one and the last; the run's measures have the last figure."""
    run = run_folder(tmp_path, knn_every_epochs=2)
    result = pretrain(run, lambda: False)
    told = [json.loads(line) for line in run.events.read_text().splitlines()]
    figures = [event["knn_top1"] for event in told if "knn_top1" in event]
    assert figures[-1] == result["measures"]["knn_top1"]
    knn = OnlineKnn.of(Pack.open(run.dataset), pretrain_recipe({**RECIPE, "knn_every_epochs": 2}))
    assert [done for done in range(1, 7) if knn.is_due(done, steps=6, steps_per_epoch=2)] == [4, 6]


def test_the_weights_are_those_of_a_run_without_it(tmp_path: Path) -> None:
    """Bit by bit: no random number is drawn, no running statistic moved, and the model trains on in training mode."""
    plain, watched = run_folder(tmp_path / "plain"), run_folder(tmp_path / "watched", **EVERY_EPOCH)
    for run in (plain, watched):
        pretrain(run, lambda: False)
    one, other = (torch.load(run.output / "encoder.pt", weights_only=True) for run in (plain, watched))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_only_training_images_are_looked_at_and_no_query_is_in_the_bank(tmp_path: Path) -> None:
    """Bank and queries part the labelled training images; those of test and val are in neither."""
    pack = Pack.open(run_folder(tmp_path, num_others=10).dataset)
    knn = OnlineKnn.of(pack, pretrain_recipe(RECIPE))
    assert np.array_equal(np.union1d(knn.bank, knn.queries), pack.split("train"))
    assert (len(knn.bank), len(knn.queries)) == (16, 4)


def test_it_agrees_with_scikit_learn(tmp_path: Path) -> None:
    """The same vote, weight exp(s / 0.1) by cosine similarity, on the same h."""
    pack = Pack.open(run_folder(tmp_path).dataset)
    recipe = pretrain_recipe(RECIPE)
    model = SimCLR(recipe).train()
    knn = OnlineKnn.of(pack, recipe)
    top1 = knn.top1(model)
    assert model.training

    def h(positions: np.ndarray) -> np.ndarray:
        images = torch.from_numpy(model_inputs(pack, positions, recipe.preprocessing)).permute(0, 3, 1, 2) / 255
        with torch.no_grad():
            values: np.ndarray = torch.nn.functional.normalize(model.eval().encoder(images)).numpy()
        return values

    reference = KNeighborsClassifier(
        n_neighbors=len(knn.bank), metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.1)
    ).fit(h(knn.bank), pack.labels[knn.bank])
    assert top1 == reference.score(h(knn.queries), pack.labels[knn.queries])


def test_a_data_set_without_classes_is_refused_by_name(tmp_path: Path) -> None:
    """A single class can't be told from another: the reason names the recipe's field."""
    run = run_folder(tmp_path)
    index = dict(np.load(run.dataset / "index.npz"))
    np.savez(run.dataset / "index.npz", **{**index, "labels": np.zeros_like(index["labels"])})
    with pytest.raises(RunError, match=r"knn_every_epochs needs 2 classes .* has 1 of 2"):
        OnlineKnn.of(Pack.open(run.dataset), pretrain_recipe(RECIPE))
