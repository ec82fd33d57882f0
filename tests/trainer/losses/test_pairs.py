"""Which pairs the losses of Table 2 are made of."""

from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakSet

import pytest
import torch
from torch import Tensor

from trainer.losses.margin import margin_triplet
from trainer.losses.nt_logistic import nt_logistic
from trainer.losses.pairs import mean_over_anchors


def costs(z: Tensor, *, other_view: bool, semi_hard: bool) -> float:
    """The mean over anchors of 100 times the positive's similarity + the negatives' mean."""

    def terms(positives: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
        return 100 * positives, negatives.masked_fill(negatives == -torch.inf, 0)

    return mean_over_anchors(z, terms, other_view=other_view, semi_hard=semi_hard).item()


def on_a_circle(*degrees: float) -> Tensor:
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def cos(*degrees: float) -> Tensor:
    return torch.tensor(degrees, dtype=torch.float64).deg2rad().cos()


def test_all_other_images_views_are_negatives() -> None:
    """Two images at 0 and 30, at 90 and 140 degrees: each anchor has both views of the other image."""
    z = on_a_circle(0, 90, 30, 140)
    negatives = cos(90, 140, 90, 60, 60, 110, 140, 110).mean()
    assert costs(z, other_view=False, semi_hard=False) == pytest.approx(
        (100 * cos(30, 50).mean() + negatives).item(), rel=1e-12
    )


def test_only_the_other_branchs_views_are_negatives() -> None:
    """The same: an x1 has the other image's x2, an x2 its x1."""
    z = on_a_circle(0, 90, 30, 140)
    negatives = cos(140, 60, 60, 140).mean()
    assert costs(z, other_view=True, semi_hard=False) == pytest.approx(
        (100 * cos(30, 50).mean() + negatives).item(), rel=1e-12
    )


def test_semi_hard_is_the_closest_of_those_farther_than_the_positive() -> None:
    """Anchor 0 with its positive at 40 degrees skips 20 (closer than the positive) and takes 70, not 120.

    Anchors at 20 and 70 (one image) and at 120 and 130 (another): the positives are 50 and 10 degrees away.
    """
    z = on_a_circle(0, 20, 120, 40, 70, 130)
    chosen = {0: 70, 20: 100, 120: 50, 40: 80, 70: 60, 130: 60}  # anchor -> distance of the closest beyond its positive
    expected = 100 * cos(40, 50, 10).mean() + cos(*chosen.values()).mean()
    assert costs(z, other_view=False, semi_hard=True) == pytest.approx(expected.item(), rel=1e-12)


def test_an_anchor_without_semi_hard_negative_has_no_negative_term() -> None:
    """Positives at 180 degrees: all negatives are closer."""
    z = on_a_circle(0, 90, 180, 270)
    assert costs(z, other_view=False, semi_hard=True) == pytest.approx(-100)


def test_the_gradient_reaches_one_of_equal_negatives() -> None:
    """One negative an anchor, also when two are as close: of the two, one is pushed away, whole."""
    z = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]] * 2, dtype=torch.float64, requires_grad=True)

    def terms(positives: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
        first = torch.zeros_like(negatives)
        first[0] = 1  # the term of the first anchor of a block alone
        return 0 * positives, torch.where(first.bool(), negatives, 0)

    loss = mean_over_anchors(z, terms, other_view=True, semi_hard=True)
    (gradient,) = torch.autograd.grad(6 * loss, z)
    assert sorted(gradient[[4, 5], 0].tolist()) == [0, 1]


@dataclass(eq=False)
class Kept:
    tensor: Tensor


LOSSES: dict[str, Callable[..., Tensor]] = {"nt_logistic": nt_logistic, "margin": margin_triplet}


@pytest.mark.parametrize("semi_hard", [False, True])
@pytest.mark.parametrize("other_view", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_similarities_do_not_outlive_their_block(
    monkeypatch: pytest.MonkeyPatch, name: str, *, other_view: bool, semi_hard: bool
) -> None:
    """The graph of the loss keeps z and little else, however many blocks there are."""
    monkeypatch.setattr("trainer.losses.similarities._rows_a_block", lambda num_columns: 4)
    z = torch.randn(64, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    kept: WeakSet[Kept] = WeakSet()

    def keep(tensor: Tensor) -> Kept:
        kept.add(entry := Kept(tensor))
        return entry

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda entry: entry.tensor):
        loss = LOSSES[name](z, 0.5, other_view=other_view, semi_hard=semi_hard)
    sizes = {entry.tensor.untyped_storage().data_ptr(): entry.tensor.numel() for entry in kept}
    assert loss.requires_grad
    assert 0 < sum(sizes.values()) <= 4 * z.numel()
