"""The transform probe on images whose transformations can, or can't, be read off their pixels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from models.config import PretrainRecipe, Transformation, TransformProbeRecipe
from tests.trainer.probes.run_folders import PIXELS, SIDE, events, probe_run
from trainer.augment.sobel import gradient_magnitude
from trainer.pack import NO_LABEL, Pack
from trainer.probes.features import FrozenModel
from trainer.probes.progress import StageProgress
from trainer.probes.splits import ProbeSplits, image_splits
from trainer.probes.transform import ALTERNATIVES, Transformed, draw, features, operation, run_transform_probe
from trainer.run import RunError, RunFolder

NUM_TRAIN, NUM_TEST = 240, 120
FIT = {"num_l2_values": 4, "l2_min": 1e-2, "l2_max": 1e1}
NAMES: tuple[Transformation, ...] = ("color", "rotation", "noise", "sobel")


def red_skies(number: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Images that are brighter on top and more red than green, and smooth: (number, SIDE, SIDE, 3)."""
    rng = np.random.default_rng(seed)
    sky = np.linspace(1, 0, SIDE)[:, None, None] * rng.uniform(50, 100, (number, 1, 1, 1))
    return (rng.uniform(60, 100, (number, 1, 1, 1)) + sky + np.array([50, 0, 20])).astype(np.uint8) + np.zeros(
        (number, SIDE, SIDE, 3), np.uint8
    )


def make_run(
    path: Path, images: NDArray[np.uint8], recipe: dict[str, Any], *, model: PretrainRecipe = PIXELS, num_test: int
) -> RunFolder:
    """Of a data set without labels."""
    splits = ["train"] * (len(images) - num_test) + ["test"] * num_test
    labels = [NO_LABEL] * len(images)
    return probe_run(
        path, "transform_probe", recipe, images=images, labels=labels, splits=splits, classes=[], model=model
    )


def accuracies(result: dict[str, Any], layer: str = "h") -> dict[str, float]:
    return {row["transformation"]: row["accuracy"] for row in result["rows"] if row["layer"] == layer}


def test_what_pixels_show_linearly_is_read_and_nothing_else(tmp_path: Path) -> None:
    """Colour, the way up and edges of red skies are linear in the pixels; the sign-symmetric noise is not."""
    run = make_run(tmp_path, red_skies(NUM_TRAIN + NUM_TEST), {**FIT, "noise_sigma": 0.02}, num_test=NUM_TEST)
    result = run_transform_probe(run)
    found = accuracies(result)
    assert (found["color"], found["rotation"], found["sobel"]) == (1, 1, 1)
    assert found["noise"] == pytest.approx(0.5, abs=0.15)
    assert (result["num_train"], result["num_test"], result["test_split"]) == (NUM_TRAIN, NUM_TEST, "test")
    assert list(run.output.iterdir()) == []


def test_images_of_noise_have_no_way_up(tmp_path: Path) -> None:
    """On images that look the same in every direction, the rotation is found at chance, a quarter."""
    images = np.random.default_rng(0).integers(0, 256, (NUM_TRAIN + NUM_TEST, SIDE, SIDE, 3), np.uint8)
    run = make_run(tmp_path, images, {**FIT, "transformations": ["rotation"]}, num_test=NUM_TEST)
    [row] = run_transform_probe(run)["rows"]
    assert row["chance"] == 0.25
    assert row["accuracy"] == pytest.approx(0.25, abs=0.12)  # three standard errors
    assert row["confidence_interval"][0] < row["accuracy"] < row["confidence_interval"][1]


def test_rows_have_the_papers_numbers_beside_them(tmp_path: Path) -> None:
    """Table 3's accuracies in h and in z = g(h), its chance and ours; of other layers it has none."""
    recipe = {**FIT, "num_l2_values": 1, "layers": ["h", "g1", "z"]}
    model = PretrainRecipe.model_validate(
        {**PIXELS.model_dump(), "head": {"num_layers": 2, "hidden_size": 6, "output_size": 4}}
    )
    rows = run_transform_probe(make_run(tmp_path, red_skies(24), recipe, model=model, num_test=8))["rows"]
    assert [(row["transformation"], row["layer"]) for row in rows] == [(n, x) for n in NAMES for x in ("h", "g1", "z")]
    table = {  # percent: chance, h, z
        "color": (80, 99.3, 97.4),
        "rotation": (25, 67.6, 25.6),
        "noise": (50, 99.5, 59.6),
        "sobel": (50, 96.6, 56.3),
    }
    for row in rows:
        chance, h, z = table[row["transformation"]]
        expected = {"h": h / 100, "g1": None, "z": z / 100}[row["layer"]]
        assert row["paper"] == (expected if expected is None else pytest.approx(expected))
        assert row["paper_chance"] == pytest.approx(chance / 100)
        assert row["chance"] == (0.25 if row["transformation"] == "rotation" else 0.5)


def test_a_model_without_a_head_has_h_alone(tmp_path: Path) -> None:
    """By default h and z; where z is h, h once. To ask for z is refused."""
    recipe = {**FIT, "num_l2_values": 1}
    rows = run_transform_probe(make_run(tmp_path / "default", red_skies(24), recipe, num_test=8))["rows"]
    assert [row["layer"] for row in rows] == ["h"] * 4
    with pytest.raises(RunError, match="layers, h; not 'z'") as refused:
        run_transform_probe(make_run(tmp_path / "z", red_skies(24), {**recipe, "layers": ["z"]}, num_test=8))
    assert refused.value.code == "unknown_layer"


@pytest.mark.parametrize("name", NAMES)
def test_alternatives_are_balanced_and_images_disjoint(name: Transformation) -> None:
    """Each alternative is taken by as many images; no image is both learned from and scored."""
    splits = ProbeSplits(np.arange(1000, 1103), np.arange(50), "test")
    train, test = draw(splits, name, TransformProbeRecipe(num_train_images=90))
    assert np.bincount(train.alternatives).tolist() == [88 // ALTERNATIVES[name]] * ALTERNATIVES[name]
    assert np.bincount(test.alternatives).tolist() == [48 // ALTERNATIVES[name]] * ALTERNATIVES[name]
    assert len(set(train.positions)) == 88
    assert set(train.positions) <= set(splits.train)
    assert set(test.positions) <= set(splits.test)
    assert len(set(test.positions)) == 48


def test_the_seed_decides_who_goes_through_what() -> None:
    """The images are the same for each transformation, in alternatives of their own; another seed has others."""
    splits = ProbeSplits(np.arange(400), np.arange(400, 500), "test")
    color, noise, again, other = (
        draw(splits, name, TransformProbeRecipe(num_train_images=100, seed=seed))[0]
        for name, seed in (("color", 0), ("noise", 0), ("color", 0), ("color", 1))
    )
    assert color.positions.tolist() == noise.positions.tolist() == again.positions.tolist()
    assert color.alternatives.tolist() == again.alternatives.tolist() != noise.alternatives.tolist()
    assert set(color.positions) != set(other.positions)


def test_alternatives_are_what_they_say() -> None:
    """0 leaves an image bit for bit; the others are its luma, quarter turns, noise of the sigma, Sobel's gradient."""
    planes = torch.rand(3, 4, 16, 16, generator=torch.Generator().manual_seed(0)) / 2 + 0.25
    words = torch.arange(8).view(4, 2)

    def changed(name: Transformation, alternatives: Sequence[int]) -> NDArray[np.float32]:
        images = Transformed(np.arange(4), torch.tensor(alternatives), words)
        result: NDArray[np.float32] = operation(name, images, 0.05)(planes.clone()).numpy()
        return result

    given = planes.numpy()
    for name in ("color", "noise", "sobel"):
        np.testing.assert_array_equal(changed(name, [0, 1, 0, 1])[:, [0, 2]], given[:, [0, 2]])
    gray = np.tensordot([0.2989, 0.587, 0.114], given[:, 1], 1)
    np.testing.assert_allclose(changed("color", [0, 1, 0, 1])[:, 1], np.stack([gray] * 3), atol=1e-6)
    for turns, image in enumerate(changed("rotation", [0, 1, 2, 3]).swapaxes(0, 1)):
        np.testing.assert_array_equal(image, np.rot90(given[:, turns], turns, (1, 2)))
    noise = changed("noise", [0, 1, 0, 1]) - given
    assert noise[:, [1, 3]].std() == pytest.approx(0.05, rel=0.05)
    assert not np.allclose(noise[:, 1], noise[:, 3], atol=0.01)
    np.testing.assert_array_equal(changed("sobel", [0, 1, 0, 1])[:, 1], gradient_magnitude(planes)[:, 1].numpy())


def test_the_probe_is_scikit_learns_on_the_same_features(tmp_path: Path) -> None:
    """At the l2 that was picked, LogisticRegression on the transformed pixels has the probe's accuracy."""
    rng = np.random.default_rng(0)
    images = (red_skies(NUM_TRAIN + NUM_TEST) * 0.1 + rng.normal(120, 30, (NUM_TRAIN + NUM_TEST, SIDE, SIDE, 3))).clip(
        0, 255
    )
    run = make_run(tmp_path, images.astype(np.uint8), {**FIT, "transformations": ["rotation"]}, num_test=NUM_TEST)
    [row] = run_transform_probe(run)["rows"]
    pack, recipe = Pack.open(run.dataset), TransformProbeRecipe()
    parts = []
    for drawn in draw(image_splits(pack), "rotation", recipe):
        x = images.astype(np.uint8)[drawn.positions].transpose(0, 3, 1, 2) / 255
        turned = [np.rot90(image, int(turns), (1, 2)) for image, turns in zip(x, drawn.alternatives, strict=True)]
        parts.append((np.stack(turned).reshape(len(x), -1), drawn.alternatives.numpy()))
    (h_train, y_train), (h_test, y_test) = parts
    centre = h_train.mean(axis=0)
    fitted = LogisticRegression(C=1 / row["l2"], tol=1e-8, max_iter=50_000).fit(h_train - centre, y_train)
    score = fitted.score(h_test - centre, y_test)
    assert 0.35 < score < 1, "the case is neither hopeless nor trivial"
    assert row["accuracy"] == pytest.approx(score, abs=1.01 / NUM_TEST)


def test_test_images_pick_nothing(tmp_path: Path) -> None:
    """With other test images, noise, every l2 is the same; what skies show isn't seen in them."""
    images = red_skies(NUM_TRAIN + NUM_TEST)
    images += np.random.default_rng(1).integers(0, 40, images.shape, np.uint8)
    other = images.copy()
    other[NUM_TRAIN:] = np.random.default_rng(0).integers(0, 256, other[NUM_TRAIN:].shape)
    recipe = {**FIT, "transformations": ["rotation", "noise"]}
    true, changed = (
        run_transform_probe(make_run(tmp_path / name, pixels, recipe, num_test=NUM_TEST))
        for name, pixels in (("true", images), ("changed", other))
    )
    assert [row["l2"] for row in true["rows"]] == [row["l2"] for row in changed["rows"]]
    assert accuracies(true)["rotation"] > accuracies(changed)["rotation"] + 0.3


def test_the_features_are_the_networks_of_the_transformed_image(tmp_path: Path) -> None:
    """In eval mode, h and z of an image that was turned, in the order in which images were drawn."""
    model = PretrainRecipe.model_validate(
        {"preprocessing": {"image_size": SIDE}, "encoder": {"name": "resnet10", "width": 0.25}}
    )
    images = np.random.default_rng(0).integers(0, 256, (32, SIDE, SIDE, 3), np.uint8)
    run = make_run(tmp_path, images, {}, model=model, num_test=8)
    frozen, pack, recipe = FrozenModel.load(run, []), Pack.open(run.dataset), TransformProbeRecipe()
    drawn, _ = draw(image_splits(pack), "rotation", recipe)
    progress = StageProgress(run, "features", len(drawn))
    found = features(frozen, pack, drawn, "rotation", recipe, ["h", "z"], progress)
    for i, (position, turns) in enumerate(zip(drawn.positions, drawn.alternatives.tolist(), strict=True)):
        image = np.rot90(images[position], turns).copy()
        with torch.no_grad():
            h, z = frozen.model(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)
        torch.testing.assert_close(found["h"].h[i], h[0], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(found["z"].h[i], z[0], rtol=1e-4, atol=1e-6)
        assert found["h"].labels[i] == turns
    assert events(run)[-1]["step"] == len(drawn)


@pytest.mark.parametrize(("num_train", "num_test"), [(7, 4), (19, 3)])
def test_too_few_images_are_refused(tmp_path: Path, num_train: int, num_test: int) -> None:
    """8 training images where 4 others score them, 20 where a fifth is held out."""
    with pytest.raises(RunError, match=f"the data set has {num_train}") as refused:
        run_transform_probe(make_run(tmp_path / "few", red_skies(num_train + num_test), FIT, num_test=num_test))
    assert refused.value.code == "too_few_images"
    enough = make_run(tmp_path / "enough", red_skies(num_train + 1 + num_test), FIT, num_test=num_test)
    result = run_transform_probe(enough)
    assert result["test_split"] == ("test" if num_test == 4 else "held_out")
    assert (result["num_train"], result["num_test"]) == ((8, 4) if num_test == 4 else (16, 4))
