"""The linear probe by SGD against L-BFGS, a NumPy transcription, and what must not change."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from models.classifier import HEAD_FILE, Classifier
from models.config import LinearProbeRecipe, PretrainRecipe
from tests.trainer.probes.run_folders import PIXELS, SIDE, events, noisy_images, pixels_h, probe_run
from trainer.probes.features import FrozenModel
from trainer.probes.linear import run_linear_probe
from trainer.probes.linear_sgd import by_sgd, fit_by_sgd
from trainer.probes.logistic import LinearHead, Spectrum, fit
from trainer.probes.progress import StageProgress
from trainer.run import RunFolder
from trainer.supervised import Plan

LABELS = [0, 1, 2] * 30
NUM_TRAIN = 60
RESNET = PretrainRecipe.model_validate(
    {"preprocessing": {"image_size": SIDE}, "encoder": {"name": "resnet10", "width": 0.25}, "head": {"output_size": 8}}
)


def make_run(path: Path, *, labels: list[int] = LABELS, model: PretrainRecipe = PIXELS, **recipe: Any) -> RunFolder:
    return probe_run(
        path,
        "linear_probe",
        {"protocol": "sgd", **recipe},
        images=noisy_images(LABELS, noise=60, seed=1),
        labels=labels,
        splits=["train"] * NUM_TRAIN + ["test"] * (len(LABELS) - NUM_TRAIN),
        classes=["a", "b", "c"],
        model=model,
    )


def features(N: int = 200, D: int = 6, K: int = 3) -> tuple[Tensor, Tensor]:
    """Centred features with classes that they half explain."""
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(N, D, dtype=torch.float64, generator=generator)
    noise = torch.randn(N, K, dtype=torch.float64, generator=generator)
    return h - h.mean(dim=0), (h[:, :K] + noise).argmax(dim=1)


def zero_head(D: int = 6, K: int = 3) -> LinearHead:
    return LinearHead(torch.zeros(K, D, dtype=torch.float64), torch.zeros(K, dtype=torch.float64))


def progress(path: Path) -> StageProgress:
    path.mkdir(exist_ok=True)
    return StageProgress(RunFolder(path), "fit", 1)


def test_many_epochs_come_to_the_minimum(tmp_path: Path) -> None:
    """On fixed features SGD ends where L-BFGS with next to no penalty does: the same loss and the same head."""
    h, y = features()
    plan = Plan(epochs=500, batch_size=len(h), steps_per_epoch=1, peak=0.5)
    head, _ = fit_by_sgd(itertools.repeat((h, y), plan.steps), zero_head(), plan, progress(tmp_path))
    best, _ = fit(h, y, 1e-6, Spectrum.of(h), zero_head(), tolerance=1e-9, max_iterations=500)
    least = cross_entropy(best.logits(h), y)
    assert float(cross_entropy(head.logits(h), y) - least) < 1e-6 * float(math.log(3) - least)
    torch.testing.assert_close(head.logits(h).softmax(1), best.logits(h).softmax(1), rtol=0, atol=1e-3)


def test_steps_are_those_of_numpy(tmp_path: Path) -> None:
    """Softmax, its gradient and Nesterov's update on the cosine, written out: the same head after three batches."""
    h, y = features(30)
    plan = Plan(epochs=1, batch_size=10, steps_per_epoch=3, peak=0.4)
    batches = list(zip(h.split(10), y.split(10), strict=True))
    head, loss = fit_by_sgd(batches, zero_head(), plan, progress(tmp_path))

    W, v = np.zeros((3, 7)), np.zeros((3, 7))  # the last column is the bias
    for step, (h_n, y_n) in enumerate(batches):
        x = np.hstack([h_n.numpy(), np.ones((10, 1))])
        p = np.exp(x @ W.T) / np.exp(x @ W.T).sum(axis=1, keepdims=True)
        last_loss = -np.log(p[np.arange(10), y_n]).mean()
        g = (p - np.eye(3)[y_n]).T @ x / 10
        v = 0.9 * v + g
        W -= 0.4 * 0.5 * (1 + math.cos(math.pi * step / 3)) * (g + 0.9 * v)
    np.testing.assert_allclose(head.weight.numpy(), W[:, :6], rtol=1e-10)
    np.testing.assert_allclose(head.bias.numpy(), W[:, 6], rtol=1e-10)
    assert loss == pytest.approx(last_loss)


def test_the_model_stays_frozen(tmp_path: Path) -> None:
    """Weights and batch norm's statistics are bit-equal before and after, and the network is still in eval mode."""
    run = make_run(tmp_path, model=RESNET, sgd={"epochs": 2, "batch_size": 20})
    model = FrozenModel.load(run, ["h"])
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    fitted = by_sgd(run, LinearProbeRecipe.model_validate(run.spec().recipe), model)
    assert fitted.head.weight.any()
    assert not any(module.training for module in model.model.modules())
    for name, value in model.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_result_tells_of_the_protocol(tmp_path: Path) -> None:
    """The head's score on the images as they are served, all training images, the batch that they allow, progress."""
    run = make_run(tmp_path, sgd={"epochs": 30})
    result = run_linear_probe(run)
    assert (result["protocol"], result["num_train"], result["batch_size"]) == ("sgd", NUM_TRAIN, NUM_TRAIN)
    assert result["learning_rate"] == pytest.approx(0.1 * NUM_TRAIN / 256)
    assert "l2" not in result
    head = Classifier.load(run.output / HEAD_FILE)
    h = pixels_h(noisy_images(LABELS, noise=60, seed=1))[NUM_TRAIN:]
    right = (h @ head.weight.T + head.bias).argmax(axis=1) == LABELS[NUM_TRAIN:]
    assert result["top1"] == right.mean() > 0.5
    [fits] = [[e for e in events(run) if e.get("stage") == "fit"]]
    assert (fits[0]["step"], fits[-1]["step"], fits[-1]["steps"]) == (0, 30, 30)


def test_test_labels_decide_nothing(tmp_path: Path) -> None:
    """With other test labels the head is the same, bit for bit."""
    other = [*LABELS[:NUM_TRAIN], *reversed(LABELS[NUM_TRAIN:])]
    heads = []
    for name, labels in (("true", LABELS), ("other", other)):
        run = make_run(tmp_path / name, labels=labels, sgd={"epochs": 3})
        run_linear_probe(run)
        heads.append((run.output / HEAD_FILE).read_bytes())
    assert heads[0] == heads[1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_comes_to_the_same_head(tmp_path: Path) -> None:
    """The crops, their features and the steps on a GPU end where those of the CPU do."""
    heads = []
    for device in ("cpu", "cuda"):
        run = make_run(tmp_path / device, sgd={"epochs": 5, "batch_size": 20})
        run.create(run.spec().model_copy(update={"device": device}))
        run_linear_probe(run)
        heads.append(Classifier.load(run.output / HEAD_FILE).weight)
    np.testing.assert_allclose(heads[1], heads[0], atol=1e-3)
