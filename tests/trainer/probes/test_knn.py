"""The weighted vote against Wu et al.'s definition written as loops."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import trainer.probes.knn
from tests.trainer.probes.run_folders import events, noisy_images, pixels_h, probe_run
from trainer.probes.knn import run_knn_probe, vote

GENERATOR = torch.Generator().manual_seed(0)
QUERIES = torch.rand(13, 6, generator=GENERATOR)
H = torch.rand(50, 6, generator=GENERATOR)
LABELS = torch.randint(0, 4, (50,), generator=GENERATOR)


def naive_votes(
    queries: NDArray[np.float64], h: NDArray[np.float64], labels: NDArray[np.int64], k: int, temperature: float
) -> NDArray[np.float64]:
    """Image by image: exp(cosine / temperature) for the class of each of the k most similar; shares of the sum."""
    votes = np.zeros((len(queries), labels.max() + 1))
    for i, query in enumerate(queries):
        cosines = [float(query @ other / np.linalg.norm(query) / np.linalg.norm(other)) for other in h]
        for j in sorted(range(len(h)), key=lambda j: -cosines[j])[:k]:
            votes[i, labels[j]] += np.exp(cosines[j] / temperature)
    return votes / votes.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("block_elements", [1, 150, 2**24])
@pytest.mark.parametrize(("k", "temperature"), [(1, 0.1), (7, 0.1), (20, 0.05), (50, 1.0)])
def test_votes_equal_the_naive_loop(
    monkeypatch: pytest.MonkeyPatch, k: int, temperature: float, block_elements: int
) -> None:
    """The votes are those of the definition, whatever the block size."""
    monkeypatch.setattr(trainer.probes.knn, "BLOCK_ELEMENTS", block_elements)
    done: list[int] = []
    votes = vote(QUERIES, H, LABELS, num_classes=4, k=k, temperature=temperature, advance=done.append)
    expected = naive_votes(QUERIES.double().numpy(), H.double().numpy(), LABELS.numpy(), k, temperature)
    np.testing.assert_allclose(votes / votes.sum(dim=1, keepdim=True), expected, rtol=1e-4, atol=1e-6)
    assert sum(done) == len(QUERIES)


def test_sharp_temperatures_do_not_overflow() -> None:
    """exp(1 / 0.001) is no float32, yet the nearest neighbour decides."""
    votes = vote(H, H, LABELS, num_classes=4, k=10, temperature=0.001, advance=lambda _: None)
    assert torch.isfinite(votes).all()
    assert torch.equal(votes.argmax(dim=1), LABELS)


def test_classes_with_equal_votes_rank_by_position() -> None:
    """Of two classes whose votes are equal, the first is predicted."""
    h = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    votes = vote(h[:1], h, torch.tensor([2, 1]), num_classes=3, k=2, temperature=0.1, advance=lambda _: None)
    assert votes.tolist() == [[0, 1, 1]]
    assert votes.argmax(dim=1).tolist() == [1]


def test_the_probe_scores_the_test_split(tmp_path: Path) -> None:
    """The result is the naive vote's on the test split; k is at most the training images."""
    labels = [0, 1, 2] * 20
    images = noisy_images(labels, noise=150, seed=3)
    recipe = {"k": 500, "temperature": 0.02}
    run = probe_run(
        tmp_path,
        "knn_probe",
        recipe,
        images=images,
        labels=labels,
        splits=["train"] * 30 + ["test"] * 30,
        classes=["a", "b", "c"],
    )
    result = run_knn_probe(run)
    h, y = pixels_h(images), np.array(labels)
    right = naive_votes(h[30:], h[:30], y[:30], 30, 0.02).argmax(axis=1) == y[30:]
    assert 0.4 < right.mean() < 1, "the case is neither hopeless nor trivial"
    per_class = {name: right[y[30:] == i].mean() for i, name in enumerate("abc")}
    assert result.pop("per_class") == pytest.approx(per_class)
    assert result == {
        "layer": "h",
        "top1": pytest.approx(right.mean()),
        "k": 30,
        "temperature": 0.02,
        "num_train": 30,
        "num_test": 30,
        "test_split": "test",
    }
    assert events(run)[-1] == {"type": "stage", "stage": "neighbors", "step": 30, "steps": 30}
