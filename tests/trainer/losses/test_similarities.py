"""Blocks make up the matrix of similarities, each row once."""

import pytest
import torch

from trainer.losses.similarities import BLOCK_SIZE, blocks, similarities


@pytest.mark.parametrize("other_view", [False, True])
@pytest.mark.parametrize(("start", "stop"), [(0, 14), (0, 7), (7, 14), (3, 11), (2, 3), (9, 13)])
@pytest.mark.parametrize("block_rows", [1, 3, 16])
def test_blocks_make_up_the_rows(
    monkeypatch: pytest.MonkeyPatch, block_rows: int, start: int, stop: int, *, other_view: bool
) -> None:
    """In order and without a gap, with -inf where a view meets itself, and the positives on their diagonal."""
    monkeypatch.setattr("trainer.losses.similarities._rows_a_block", lambda num_columns: block_rows)
    z = torch.randn(14, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    dense = (z @ z.T / 0.5).fill_diagonal_(-torch.inf)  # (14, 14)
    row = start
    for block in blocks(start, stop, 14, other_view=other_view):
        assert block.rows.start == row
        row = block.rows.stop
        s = similarities(z, block, 0.5)
        torch.testing.assert_close(s, dense[block.rows, block.columns], rtol=1e-12, atol=1e-12)
        positives = torch.stack([dense[i, (i + 7) % 14] for i in range(block.rows.start, block.rows.stop)])
        torch.testing.assert_close(s.diagonal(block.positive), positives, rtol=1e-12, atol=1e-12)
    assert row == stop


def test_other_view_leaves_the_anchors_branch_out() -> None:
    """An x1 is compared with x2 alone, an x2 with x1 alone."""
    assert [(b.rows, b.columns) for b in blocks(0, 10, 10, other_view=True)] == [
        (slice(0, 5), slice(5, 10)),
        (slice(5, 10), slice(0, 5)),
    ]


@pytest.mark.parametrize("num_views", [2, 512, 8192, 2**17])
def test_a_blocks_size_does_not_grow_with_the_batch(num_views: int) -> None:
    """At most 4M similarities, and no more than a few dozen blocks where one would do."""
    sizes = [
        (b.rows.stop - b.rows.start) * (b.columns.stop - b.columns.start)
        for b in blocks(0, num_views, num_views, other_view=False)
    ]
    assert sum(sizes) == num_views**2
    assert max(sizes) <= BLOCK_SIZE
    assert len(sizes) <= max(2, 2 * num_views**2 // BLOCK_SIZE)


def test_thin_blocks_have_16_rows() -> None:
    """A batch of a million views costs more memory a block rather than products of a few rows."""
    first = next(iter(blocks(0, 2**20, 2**20, other_view=False)))
    assert first.rows == slice(0, 16)
