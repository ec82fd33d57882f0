import pytest
import torch

from trainer.augment.color import shift_hue
from trainer.augment.rows import _on_all, _on_picked, on_rows


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


def test_under_the_compiler_all_views_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compiled has one shape for all steps, so it computes all views and selects, as on CUDA."""
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    shapes = []

    def operation(planes: torch.Tensor) -> torch.Tensor:
        shapes.append(planes.shape[1])
        return 1 - planes

    on_rows(torch.zeros(3, 4, 5, 5), torch.tensor([True, False, False, True]), operation)
    assert shapes == [4]
