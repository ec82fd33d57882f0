"""Checkpoints are verified when read, fall back when damaged, and only two are kept."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from trainer.checkpoint import load_newest_checkpoint, save_checkpoint

CPU = torch.device("cpu")


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    """Tensors are bit-equal and the step is in the state."""
    weights = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    save_checkpoint(tmp_path, 7, {"model": {"w": weights}})
    state = load_newest_checkpoint(tmp_path, CPU)
    assert state is not None
    assert state["step"] == 7
    assert torch.equal(state["model"]["w"], weights)


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    """After four saves the folder holds the states of the last two, and nothing else."""
    for step in (5, 10, 15, 20):
        save_checkpoint(tmp_path, step, {})
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["step-00000015.json", "step-00000015.pt", "step-00000020.json", "step-00000020.pt"]


def test_a_flipped_bit_falls_back_to_the_older_state(tmp_path: Path) -> None:
    """A checkpoint whose bytes changed on the disk is not loaded; the one before it is."""
    for step in (5, 10):
        save_checkpoint(tmp_path, step, {"w": torch.arange(100)})
    path = tmp_path / "step-00000010.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    state = load_newest_checkpoint(tmp_path, CPU)
    assert state is not None
    assert state["step"] == 5


@pytest.mark.parametrize(
    "damage",
    [
        lambda manifest: manifest.with_suffix(".pt").unlink(),
        lambda manifest: manifest.write_bytes(bytes(80)),
        lambda manifest: manifest.write_bytes(b"\xff\xfe\xfd"),
        lambda manifest: manifest.write_text("{}"),
        lambda manifest: manifest.write_text("[]"),
        lambda manifest: manifest.write_text("7"),
    ],
    ids=["no state", "zeros", "no text", "no sum", "a list", "a number"],
)
def test_what_is_lost_or_unreadable_falls_back_to_the_older_state(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    """A manifest whose state is missing, or that is no manifest itself, counts as little as a flipped bit."""
    for step in (5, 10):
        save_checkpoint(tmp_path, step, {})
    damage(tmp_path / "step-00000010.json")
    state = load_newest_checkpoint(tmp_path, CPU)
    assert state is not None
    assert state["step"] == 5


def test_a_state_without_its_manifest_does_not_count(tmp_path: Path) -> None:
    """A process killed between the two files leaves a state that is never read."""
    save_checkpoint(tmp_path, 5, {})
    (tmp_path / "step-00000005.json").unlink()
    assert load_newest_checkpoint(tmp_path, CPU) is None


def test_there_may_be_none(tmp_path: Path) -> None:
    """A fresh run has no state."""
    assert load_newest_checkpoint(tmp_path, CPU) is None
