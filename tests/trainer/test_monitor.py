"""What a step's h and z show, against loops over pairs and known shapes."""

import math

import pytest
import torch
from torch import Tensor

from models.config import Loss
from trainer.monitor import measures


def naive(z: Tensor, loss: Loss) -> tuple[float, float]:
    """Contrastive accuracy and entropy of z (2N, D), view by view."""
    hits, entropies, count = 0, [], len(z)
    for i in range(count):
        others = [k for k in range(count) if k != i]
        s = []
        for k in others:
            dot = float(z[i] @ z[k])
            s.append(dot / float(z[i].norm() * z[k].norm()) if loss.normalize else dot)
        hits += others[max(range(len(s)), key=s.__getitem__)] == (i + count // 2) % count
        weights = [math.exp(value / loss.temperature) for value in s]
        entropies.append(-sum(w / sum(weights) * math.log(w / sum(weights)) for w in weights))
    return hits / count, sum(entropies) / count


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_accuracy_and_entropy_are_those_of_a_loop_over_views(normalize: bool, temperature: float) -> None:  # noqa: FBT001
    """Of the loss's own similarities, with its temperature."""
    torch.manual_seed(0)
    z1 = torch.randn(12, 5)
    z = torch.cat((z1, z1 + torch.randn(12, 5)))
    loss = Loss(normalize=normalize, temperature=temperature)
    found, (accuracy, entropy) = measures(z, z, loss), naive(z, loss)
    assert 0 < accuracy < 1
    assert found["contrastive_accuracy"] == pytest.approx(accuracy)
    assert found["entropy"] == pytest.approx(entropy, rel=1e-5)


def test_a_collapse_shows() -> None:
    """All images alike: rank 0, uniformity 0, entropy log(2M - 1), and alignment that looks perfect."""
    found = measures(torch.ones(16, 4), torch.ones(16, 3), Loss())
    assert (found["effective_rank_h"], found["effective_rank_z"], found["alignment"]) == (0, 0, 0)
    assert found["uniformity"] == pytest.approx(0, abs=1e-6)
    assert found["entropy"] == pytest.approx(math.log(15))


def test_what_is_learnt_shows() -> None:
    """Orthogonal images whose views agree: all found, full rank; h and z are told apart."""
    z, h = torch.eye(4).repeat(2, 1), torch.zeros(8, 4)
    h[::2, 0] = 1
    found = measures(h, z, Loss(temperature=0.01))
    assert found["contrastive_accuracy"] == 1
    assert found["entropy"] == pytest.approx(0, abs=1e-6)
    assert found["effective_rank_z"] == pytest.approx(3)  # of four centred points
    assert found["effective_rank_h"] == pytest.approx(1)
    assert found["uniformity"] == pytest.approx(-4)  # every pair is sqrt(2) apart


def test_only_the_first_images_are_looked_at() -> None:
    """The figures of 300 images are those of the first 256, both views; those of bfloat16 are computed in float32."""
    torch.manual_seed(0)
    h, z = torch.randn(600, 7), torch.randn(600, 5)
    rows = torch.cat((torch.arange(256), torch.arange(300, 556)))
    assert measures(h, z, Loss()) == measures(h[rows], z[rows], Loss())
    rounded = measures(h.bfloat16(), z.bfloat16(), Loss())
    assert rounded == measures(h.bfloat16().float(), z.bfloat16().float(), Loss())


def test_losses_without_a_softmax_have_no_entropy_and_one_image_no_figures() -> None:
    """NT-Logistic and margin tell the others."""
    z = torch.eye(4).repeat(2, 1)
    assert "entropy" not in measures(z, z, Loss(name="margin"))
    assert measures(z, z, Loss(name="margin"))["contrastive_accuracy"] == 1
    assert measures(z[:2], z[:2], Loss()) == {}
