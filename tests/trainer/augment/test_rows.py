import torch

from trainer.augment.color import shift_hue
from trainer.augment.rows import _on_all, _on_picked


def test_both_ways_to_treat_some_views_agree() -> None:
    """Picking the active views (CPU) and computing all, then selecting (CUDA), give the same bits."""
    generator = torch.Generator().manual_seed(0)
    planes = torch.rand((3, 10, 5, 5), generator=generator)
    shift = torch.rand((10, 1, 1), generator=generator) - 0.5
    active = torch.tensor([True, False] * 5)
    everywhere = _on_all(planes, active, shift_hue, shift)
    assert torch.equal(everywhere[:, ~active], planes[:, ~active])
    assert torch.equal(everywhere[:, active], shift_hue(planes, shift)[:, active])
    assert torch.equal(everywhere, _on_picked(planes.clone(), active, shift_hue, shift))


def test_no_active_view_changes_nothing() -> None:
    """A batch of which no view is active stays as it is."""
    planes = torch.rand((3, 4, 5, 5), generator=torch.Generator().manual_seed(1))
    result = _on_picked(planes.clone(), torch.zeros(4, dtype=torch.bool), shift_hue, torch.zeros(4, 1, 1))
    assert torch.equal(result, planes)
