"""The linear probe against scikit-learn, and what it must not look at."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

import trainer.probes.linear
from models.classifier import HEAD_FILE, Classifier
from models.config import LinearProbeRecipe
from tests.trainer.probes.run_folders import events, noisy_images, pixels_h, probe_run
from trainer.pack import NO_LABEL
from trainer.probes.features import probe_data
from trainer.probes.linear import run_linear_probe, train_head
from trainer.probes.splits import stratified
from trainer.run import RunFolder

NUM_TRAIN, NUM_TEST = 540, 60
LABELS = [0, 1, 2] * 200
SPLITS = ["train"] * NUM_TRAIN + ["test"] * NUM_TEST
RECIPE = {"num_l2_values": 10, "l2_min": 1e-4, "l2_max": 1e5, "held_out_fraction": 0.5}


def noisy_run(
    path: Path, *, recipe: dict[str, Any] = RECIPE, labels: Sequence[int] = LABELS
) -> tuple[RunFolder, NDArray[np.float64]]:
    """A run folder whose classes are hard to tell apart, with as strong as with weak regularisation, and its h."""
    images = noisy_images(LABELS, noise=150, glare=100, seed=3)
    run = probe_run(path, "linear_probe", recipe, images=images, labels=labels, splits=SPLITS, classes=["a", "b", "c"])
    return run, pixels_h(images)


def head_of(run: RunFolder) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Weight (K, D), bias (K,) and classes (K,) of the head that the probe trains."""
    head, seen, _ = train_head(probe_data(run, "h").train, LinearProbeRecipe.model_validate(run.spec().recipe), run)
    return head.weight.numpy(), head.bias.numpy(), seen.numpy()


def sklearn_fit(h: NDArray[np.float64], y: NDArray[np.int64], l2: float) -> LogisticRegression:
    return LogisticRegression(C=1 / l2, tol=1e-8, max_iter=50_000).fit(h, y)


def test_the_probe_does_what_scikit_learn_does(tmp_path: Path) -> None:
    """The l2 is the best of an exhaustive search on the held-out part; the scores are those of its refit."""
    run, h = noisy_run(tmp_path)
    result = run_linear_probe(run)

    y = np.array(LABELS)
    held_out = stratified(y[:NUM_TRAIN], 0.5, seed=0)
    h_train, y_train = h[:NUM_TRAIN], y[:NUM_TRAIN]
    values = [1e5 / 10**i for i in range(10)]
    accuracies = [
        sklearn_fit(h_train[~held_out], y_train[~held_out], l2).score(h_train[held_out], y_train[held_out])
        for l2 in values
    ]
    best = int(np.argmax(accuracies))
    assert 0 < best < 9, "the case has its best inside the range"
    assert result["l2"] == pytest.approx(values[best])
    assert result["held_out_top1"] == pytest.approx(accuracies[best])

    predicted = sklearn_fit(h_train, y_train, values[best]).predict(h[NUM_TRAIN:])
    right = predicted == y[NUM_TRAIN:]
    assert 0.4 < right.mean() < 1, "the case is neither hopeless nor trivial"
    assert result["top1"] == pytest.approx(right.mean())
    assert result["per_class"] == pytest.approx({c: right[y[NUM_TRAIN:] == i].mean() for i, c in enumerate("abc")})
    assert result["confusion"][0][1] == ((y[NUM_TRAIN:] == 0) & (predicted == 1)).sum()
    assert result["confidence_interval"][0] < result["top1"] < result["confidence_interval"][1]
    assert (result["num_train"], result["num_test"]) == (NUM_TRAIN, NUM_TEST)
    assert (result["test_split"], result["classes"]) == ("test", ["a", "b", "c"])
    assert "top5" not in result


def test_the_head_predicts_from_h_itself(tmp_path: Path) -> None:
    """The head's weight and bias, applied to h as it is, score the probe's top-1; its file is the head."""
    run, h = noisy_run(tmp_path)
    result = run_linear_probe(run)
    weight, bias, classes = head_of(run)
    predicted = classes[(h[NUM_TRAIN:] @ weight.T + bias).argmax(axis=1)]
    assert (predicted == LABELS[NUM_TRAIN:]).mean() == pytest.approx(result["top1"])
    left = Classifier.load(run.output / HEAD_FILE)
    assert [path.name for path in run.output.iterdir()] == [HEAD_FILE]
    np.testing.assert_array_equal(left.weight, weight)
    np.testing.assert_array_equal(left.bias, bias)
    assert (left.classes, left.layer) == (("a", "b", "c"), "h")


def test_test_labels_decide_nothing(tmp_path: Path) -> None:
    """With the test labels shuffled, the l2 and the head stay the same, bit for bit; only the score changes."""
    shuffled = [*LABELS[:NUM_TRAIN], *np.random.default_rng(0).permutation(LABELS[NUM_TRAIN:]).tolist()]
    results, heads = [], []
    for name, labels in (("true", LABELS), ("shuffled", shuffled)):
        run, _ = noisy_run(tmp_path / name, labels=labels)
        results.append(run_linear_probe(run))
        heads.append(head_of(run))
    for name in ("l2", "held_out_top1"):
        assert results[0][name] == results[1][name]
    assert results[0]["top1"] > results[1]["top1"]
    np.testing.assert_array_equal(heads[0][0], heads[1][0])
    np.testing.assert_array_equal(heads[0][1], heads[1][1])


def test_a_head_depends_on_its_recipes_seed_alone(tmp_path: Path) -> None:
    """Whatever random numbers were drawn before, as for another layer, the head is the same bit for bit."""
    run, _ = noisy_run(tmp_path)
    heads = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        heads.append(head_of(run))
    np.testing.assert_array_equal(heads[0][0], heads[1][0])
    np.testing.assert_array_equal(heads[0][1], heads[1][1])


def test_leaving_weak_values_out_changes_no_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where l2 matters, values far weaker than the best aren't fitted, and the picked one is the same as with them."""
    tried: list[float] = []

    def counting_fit(h: Any, y: Any, l2: float, *rest: Any, **options: Any) -> Any:
        tried.append(l2)
        return fit(h, y, l2, *rest, **options)

    def picked_l2(name: str) -> float:
        tried.clear()
        run, _ = noisy_run(tmp_path / name, recipe={**RECIPE, "num_l2_values": 20})
        l2: float = run_linear_probe(run)["l2"]
        assert events(run)[-1] == {"type": "stage", "stage": "fit", "step": 20, "steps": 20}
        return l2

    fit = trainer.probes.linear.fit
    monkeypatch.setattr(trainer.probes.linear, "fit", counting_fit)
    hasty = picked_l2("hasty")
    assert len(tried) < 21
    assert 1e-4 < hasty < 1e5
    monkeypatch.setattr(trainer.probes.linear, "PATIENCE", 100)
    assert picked_l2("patient") == hasty
    assert len(tried) == 21  # the values, and the whole training split


def test_of_equal_values_the_strongest_is_picked(tmp_path: Path) -> None:
    """Where every l2 separates the held-out images, the strongest is picked."""
    images = noisy_images(LABELS, noise=10, seed=3)
    run = probe_run(tmp_path, "linear_probe", RECIPE, images=images, labels=LABELS, splits=SPLITS, classes=list("abc"))
    result = run_linear_probe(run)
    assert (result["l2"], result["top1"]) == (pytest.approx(1e5), 1.0)


def test_classes_without_training_images_are_never_predicted(tmp_path: Path) -> None:
    """A class that only the test split has counts as wrong; images without a label count nowhere."""
    labels = [label if i % 10 else NO_LABEL for i, label in enumerate([0, 2] * 40)]
    labels[60] = 1
    images = noisy_images([max(label, 0) for label in labels], noise=10, seed=1)
    run = probe_run(
        tmp_path,
        "linear_probe",
        {"num_l2_values": 3},
        images=images,
        labels=labels,
        splits=["train"] * 40 + ["test"] * 40,
        classes=["a", "b", "c"],
    )
    result = run_linear_probe(run)
    assert (result["num_train"], result["num_test"]) == (36, 37)
    assert result["per_class"] == {"a": 1.0, "b": 0.0, "c": 1.0}
    assert [row[1] for row in result["confusion"]] == [0, 0, 0]
    weight, _, classes = head_of(run)
    assert classes.tolist() == [0, 2]
    assert weight.shape[0] == 2
    assert Classifier.load(run.output / HEAD_FILE).classes == ("a", "c")


def test_top5_counts_the_five_likeliest(tmp_path: Path) -> None:
    """With 6 classes, top-5 is the share of images whose class is not the least likely one."""
    labels = list(range(6)) * 20
    images = noisy_images(labels, noise=250, seed=2)
    run = probe_run(
        tmp_path,
        "linear_probe",
        {"num_l2_values": 3},
        images=images,
        labels=labels,
        splits=["train"] * 60 + ["test"] * 60,
        classes=list("abcdef"),
    )
    result = run_linear_probe(run)
    weight, bias, _ = head_of(run)
    logits = pixels_h(images)[60:] @ weight.T + bias
    expected = (logits.argmin(axis=1) != np.array(labels[60:])).mean()
    assert result["top1"] < expected < 1
    assert result["top5"] == pytest.approx(expected)


def test_a_fit_that_did_not_converge_is_told(tmp_path: Path) -> None:
    """With too few iterations the probe still ends, and leaves a warning."""
    run, _ = noisy_run(tmp_path, recipe={**RECIPE, "l2_max": 1e-3, "max_iterations": 1})
    assert torch.isfinite(torch.tensor(run_linear_probe(run)["top1"]))
    assert [event["code"] for event in events(run) if event["type"] == "warning"] == ["not_converged"]
