"""Which images a probe learns from and is scored on."""

from pathlib import Path

import numpy as np
import pytest

from tests.trainer.probes.run_folders import noisy_images, write_pack
from trainer.pack import NO_LABEL, Pack
from trainer.probes.splits import labelled_part, probe_splits, stratified
from trainer.run import RunError


def pack(folder: Path, rows: list[tuple[int, str]], num_classes: int) -> Pack:
    labels = [label for label, _ in rows]
    images = noisy_images([0] * len(rows), noise=1, seed=0)
    write_pack(folder, images, labels, [split for _, split in rows], ["ant", "bee", "cat", "dog"][:num_classes])
    return Pack.open(folder)


def test_the_test_split_is_used_and_images_without_a_label_are_not(tmp_path: Path) -> None:
    """A pack's own test split scores the probe; images without a label count nowhere, `val` images neither."""
    rows = [(0, "train"), (NO_LABEL, "train"), (0, "train"), (1, "train"), (1, "train")]
    rows += [(0, "test"), (NO_LABEL, "test"), (1, "val"), (1, "test")]
    splits = probe_splits(pack(tmp_path, rows, 2))
    assert splits.test_split == "test"
    assert splits.train.tolist() == [0, 2, 3, 4]
    assert splits.test.tolist() == [5, 8]


@pytest.mark.parametrize("unlabelled", [[], [(NO_LABEL, "test")]])
def test_val_scores_where_test_has_no_labels(tmp_path: Path, unlabelled: list[tuple[int, str]]) -> None:
    """Without labelled test images those of `val` score the probe, and nothing of `train` is held out."""
    rows = [(0, "train")] * 3 + [(1, "train")] * 3 + [(0, "val"), (NO_LABEL, "val"), (1, "val"), *unlabelled]
    splits = probe_splits(pack(tmp_path, rows, 2))
    assert splits.test_split == "val"
    assert splits.train.tolist() == list(range(6))
    assert splits.test.tolist() == [6, 8]


@pytest.mark.parametrize("unlabelled", [[], [(NO_LABEL, "test"), (NO_LABEL, "val")]])
def test_a_fifth_is_held_out_where_no_labelled_test_split_is(tmp_path: Path, unlabelled: list[tuple[int, str]]) -> None:
    """Without labelled test or val images, a fifth of each class is held out, the same one every time."""
    rows = [(0, "train")] * 10 + [(1, "train")] * 20 + unlabelled
    opened = pack(tmp_path, rows, 2)
    splits = probe_splits(opened)
    assert splits.test_split == "held_out"
    assert np.bincount(opened.labels[splits.test]).tolist() == [2, 4]
    assert sorted([*splits.train, *splits.test]) == list(range(30))
    assert probe_splits(opened).test.tolist() == splits.test.tolist()


@pytest.mark.parametrize(("size", "expected"), [(1, 0), (2, 1), (3, 1), (10, 3), (100, 30)])
def test_stratified_leaves_something_of_each_class_on_both_sides(size: int, expected: int) -> None:
    """Of each class the fraction is chosen, at least one image but never all, and none of a single one."""
    labels = np.repeat([3, 5], [size, 40])
    chosen = stratified(labels, 0.3, seed=0)
    assert chosen[labels == 3].sum() == expected
    assert chosen[labels == 5].sum() == 12
    assert stratified(np.repeat([0], size), 0.99, seed=0).sum() == size - 1


def test_stratified_depends_on_its_seed_alone() -> None:
    """The same seed chooses the same images, another one others."""
    labels = np.repeat([0, 1], 50)
    assert (stratified(labels, 0.2, seed=1) == stratified(labels, 0.2, seed=1)).all()
    assert (stratified(labels, 0.2, seed=1) != stratified(labels, 0.2, seed=2)).any()


@pytest.mark.parametrize("split", ["test", "train"])
def test_too_few_labels_are_refused_by_name(tmp_path: Path, split: str) -> None:
    """With one class of two training images, the error names each class that falls short and what it has."""
    rows = [(0, "train")] * 3 + [(1, "train"), (0, split)]
    with pytest.raises(RunError) as refused:
        probe_splits(pack(tmp_path, rows, 3))
    assert refused.value.code == "too_few_labels"
    assert "'bee' has 1, 'cat' has 0" in refused.value.message
    assert "'ant'" not in refused.value.message
    assert ("held out" in refused.value.message) == (split == "train")


def test_a_pack_without_classes_is_refused(tmp_path: Path) -> None:
    """Images without any class can't be probed."""
    with pytest.raises(RunError, match="the data set has 0"):
        probe_splits(pack(tmp_path, [(NO_LABEL, "train")] * 3, 0))


def test_parts_of_the_labels_are_balanced_and_nested(tmp_path: Path) -> None:
    """A tenth of each class; with the same seed it is within the half, with another it is another."""
    made = pack(tmp_path, [(i % 3 // 2, "train") for i in range(90)] + [(0, "test"), (1, "test")], 2)
    train = probe_splits(made).train
    tenth, half, whole = (labelled_part(made, train, fraction, seed=1) for fraction in (0.1, 0.5, 1.0))
    assert np.bincount(made.labels[tenth]).tolist() == [6, 3]
    assert np.bincount(made.labels[half]).tolist() == [30, 15]
    assert set(tenth) < set(half) < set(whole) == set(train)
    assert set(tenth) != set(labelled_part(made, train, 0.1, seed=2))
    assert tenth.tolist() == labelled_part(made, train, 0.1, seed=1).tolist()


def test_a_part_without_an_image_of_a_class_is_refused(tmp_path: Path) -> None:
    """What the API asks of the counts, the job asks of the images: held-out ones can't be labelled."""
    made = pack(tmp_path, [(0, "train")] * 60 + [(1, "train")] * 62, 2)
    train = probe_splits(made).train
    assert len(labelled_part(made, train, 0.011, seed=0)) == 2
    with pytest.raises(RunError, match=r"recipe\.label_fraction: more than 0\.0104167,.*'ant' has 48") as failure:
        labelled_part(made, train, 0.01, seed=0)
    assert failure.value.code == "too_few_labels"
