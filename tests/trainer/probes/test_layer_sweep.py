"""The layer sweep against single probes, scikit-learn and NumPy on what hooks see."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from models.config import LayerSweepRecipe, PretrainRecipe
from tests.trainer.probes.run_folders import PIXELS, SIDE, pixels_h, probe_run, untrained
from trainer.probes.features import FrozenModel
from trainer.probes.knn import run_knn_probe
from trainer.probes.layer_sweep import run_layer_sweep, view_outputs
from trainer.probes.linear import run_linear_probe
from trainer.run import RunError, RunFolder

RESNET = PretrainRecipe.model_validate(
    {
        "preprocessing": {"image_size": SIDE},
        "encoder": {"name": "resnet10", "width": 0.25},
        "head": {"output_size": 8},
        "augmentation": {"blur_probability": 0.0},
    }
)
LAYERS = ["stem", "layer1.0", "layer2.0", "layer3.0", "h", "g1", "z"]
SIZES = [16, 16, 32, 64, 128, 128, 8]
NUM_TRAIN, NUM_TEST = 180, 60
LABELS = [0, 1, 2] * 80
FIT = {"num_l2_values": 6, "l2_min": 1e-3, "l2_max": 1e2}


def tinted_images() -> NDArray[np.uint8]:
    """A class has a tint, which is left when a layer averages over the positions, under noise."""
    tints = np.random.default_rng(0).normal(128, 9, (3, 1, 1, 3))
    noise = np.random.default_rng(1).normal(0, 60, (len(LABELS), SIDE, SIDE, 3))
    return (tints[LABELS] + noise).clip(0, 255).astype(np.uint8)


IMAGES = tinted_images()


def make_run(path: Path, kind: Any, recipe: dict[str, Any], labels: Sequence[int] = LABELS) -> RunFolder:
    splits = ["train"] * NUM_TRAIN + ["test"] * NUM_TEST
    return probe_run(path, kind, recipe, images=IMAGES, labels=labels, splits=splits, classes=list("abc"), model=RESNET)


def without_seconds(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name != "seconds"}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of every layer."""
    return run_layer_sweep(make_run(tmp_path_factory.mktemp("sweep"), "layer_sweep", {**FIT, "k": 20}))


def seen_by_hook(module: str) -> NDArray[np.float64]:
    """A module's output for all images, averaged over the positions."""
    model, seen = untrained(RESNET), []
    dict(model.named_modules())[module].register_forward_hook(lambda *call: seen.append(call[2]))
    with torch.no_grad():
        model(torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 255)
    output: torch.Tensor = seen[0]
    return (output.mean(dim=(2, 3)) if output.ndim == 4 else output).double().numpy()


def test_each_layer_is_there_in_order_with_its_size(sweep: dict[str, Any]) -> None:
    """All of the model's layers, first to last, by the images of the test split."""
    assert [(row["layer"], row["size"]) for row in sweep["layers"]] == list(zip(LAYERS, SIZES, strict=True))
    assert (sweep["num_train"], sweep["num_test"], sweep["test_split"]) == (NUM_TRAIN, NUM_TEST, "test")
    assert (sweep["k"], sweep["num_view_images"]) == (20, NUM_TEST)
    for row in sweep["layers"]:
        assert row["confidence_interval"][0] <= row["linear_top1"] <= row["confidence_interval"][1]


@pytest.mark.parametrize("layer", ["layer2.0", "h", "z"])
def test_a_row_is_what_the_probes_of_the_layer_say(tmp_path: Path, sweep: dict[str, Any], layer: str) -> None:
    """A linear and a kNN probe of the layer with the same settings have the sweep's figures, and name the layer."""
    [row] = [row for row in sweep["layers"] if row["layer"] == layer]
    linear = run_linear_probe(make_run(tmp_path / "linear", "linear_probe", {**FIT, "layer": layer}))
    knn = run_knn_probe(make_run(tmp_path / "knn", "knn_probe", {"k": 20, "layer": layer}))
    assert linear["layer"] == knn["layer"] == layer
    assert (row["linear_top1"], row["l2"], row["knn_top1"]) == (linear["top1"], linear["l2"], knn["top1"])
    assert row["confidence_interval"] == linear["confidence_interval"]


@pytest.mark.parametrize(("layer", "module"), [("stem", "encoder.maxpool"), ("layer3.0", "encoder.layer3.0")])
def test_a_row_is_what_scikit_learn_says_of_the_modules_output(sweep: dict[str, Any], layer: str, module: str) -> None:
    """At the l2 that was picked, LogisticRegression on a hook's features has the top-1; NumPy the effective rank."""
    [row] = [row for row in sweep["layers"] if row["layer"] == layer]
    h, y = seen_by_hook(module), np.array(LABELS)
    centre = h[:NUM_TRAIN].mean(axis=0)
    fitted = LogisticRegression(C=1 / row["l2"], tol=1e-8, max_iter=50_000)
    fitted.fit(h[:NUM_TRAIN] - centre, y[:NUM_TRAIN])
    score = fitted.score(h[NUM_TRAIN:] - centre, y[NUM_TRAIN:])
    assert 0.4 < score < 1, "the case is neither hopeless nor trivial"
    assert row["linear_top1"] == pytest.approx(score, abs=1.01 / NUM_TEST)  # an image on the border may fall
    values = np.linalg.svd(h[NUM_TRAIN:] - h[NUM_TRAIN:].mean(axis=0), compute_uv=False)
    shares = values[values > 1e-12] / values.sum()
    assert row["effective_rank"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-3)


def test_listed_layers_alone_are_probed_and_the_same(tmp_path: Path, sweep: dict[str, Any]) -> None:
    """Of the listed layers each has the row that it has among all, in the model's order."""
    listed = run_layer_sweep(make_run(tmp_path, "layer_sweep", {**FIT, "k": 20, "layers": ["z", "layer3.0"]}))
    assert listed["layers"] == [row for row in sweep["layers"] if row["layer"] in {"z", "layer3.0"}]


def test_test_labels_pick_nothing(tmp_path: Path, sweep: dict[str, Any]) -> None:
    """With the test labels shuffled, every l2 and the geometry stay; of the stem, which knows the tint, scores fall."""
    shuffled = [*LABELS[:NUM_TRAIN], *np.random.default_rng(0).permutation(LABELS[NUM_TRAIN:]).tolist()]
    other = run_layer_sweep(make_run(tmp_path, "layer_sweep", {**FIT, "k": 20}, shuffled))
    for row, true in zip(other["layers"], sweep["layers"], strict=True):
        for name in ("l2", "effective_rank", "alignment", "uniformity"):
            assert row[name] == true[name], (row["layer"], name)
    for name in ("linear_top1", "knn_top1"):
        assert other["layers"][0][name] < sweep["layers"][0][name] - 0.1


def test_views_are_drawn_by_the_models_own_recipe(tmp_path: Path) -> None:
    """Under a recipe that only mirrors, views are the test images or their mirror images, each about as often."""
    recipe = PIXELS.model_copy(
        update={"augmentation": RESNET.augmentation.model_copy(update={"operations": ("flip",)})}
    )
    splits = ["train"] * NUM_TRAIN + ["test"] * NUM_TEST
    run = probe_run(
        tmp_path, "layer_sweep", {}, images=IMAGES, labels=LABELS, splits=splits, classes=list("abc"), model=recipe
    )
    views = view_outputs(run, FrozenModel.load(run, ["h"]), ["h"], LayerSweepRecipe(num_view_images=40))["h"]
    test = IMAGES[NUM_TRAIN:]
    plain, mirrored = pixels_h(test), pixels_h(test[:, :, ::-1])
    states = []
    for h1, h2 in zip(*(view.double().numpy() for view in views), strict=True):
        [image] = [i for i in range(NUM_TEST) if min(abs(h1 - plain[i]).max(), abs(h1 - mirrored[i]).max()) < 1e-6]
        for h in (h1, h2):
            assert min(abs(h - plain[image]).max(), abs(h - mirrored[image]).max()) < 1e-6
            states.append((image, abs(h - plain[image]).max() < 1e-6))
    assert len({image for image, _ in states}) == 40
    assert 20 < sum(is_plain for _, is_plain in states) < 60


def test_an_unknown_layer_and_a_single_test_image_are_refused(tmp_path: Path) -> None:
    """By the layers there are, and by the number of images that are needed."""
    with pytest.raises(RunError, match=r"not 'layer9'") as refused:
        run_layer_sweep(make_run(tmp_path / "layer", "layer_sweep", {"layers": ["layer9"]}))
    assert refused.value.code == "unknown_layer"
    labels = [0, 1] * 10
    run = probe_run(
        tmp_path / "image",
        "layer_sweep",
        {},
        images=IMAGES[:20],
        labels=labels,
        splits=["train"] * 19 + ["test"],
        classes=["a", "b"],
    )
    with pytest.raises(RunError, match="2 labelled test images") as refused:
        run_layer_sweep(run)
    assert refused.value.code == "too_few_labels"
