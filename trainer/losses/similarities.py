"""The (2N, 2N) matrix of similarities in blocks of rows: it never exists as a whole, so memory stays linear in N.

Legend: N images, 2N views, D projection dim; a block has R anchors (rows) and K views to compare them with (columns).
Rows i and (i + N) mod 2N of z are the two views of one image, rows 0..N-1 are x1.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK_SIZE = 4 * 1024 * 1024  # similarities: 16 MB of float32, about what a CPU's cache holds
MIN_BLOCK_ROWS = 16  # products with fewer rows waste a CPU's vector units


class Block(NamedTuple):
    """Where a block lies in the matrix, and where two diagonals lie in the block (offsets for Tensor.diagonal)."""

    rows: slice
    part: slice  # rows, counted from the start of the range that was cut into blocks
    columns: slice
    itself: int
    positive: int


def blocks(start: int, stop: int, num_views: int, *, other_view: bool) -> Iterator[Block]:
    """Blocks that make up rows start..stop of the matrix of 2N = `num_views`, against all columns, in order.

    With `other_view` the columns are the views of the branch that made an anchor's positive, N instead of 2N. No block
    holds anchors of both branches: their positives are one diagonal of it.
    """
    N = num_views // 2
    for first, end in ((start, min(stop, N)), (max(start, N), stop)):  # the anchors that are x1, those that are x2
        columns = slice(0, num_views)
        if other_view:
            columns = slice(N, num_views) if first < N else slice(0, N)
        block_rows = _rows_a_block(columns.stop - columns.start)
        for row in range(first, end, block_rows):
            stop_row = min(row + block_rows, end)
            yield Block(
                rows=slice(row, stop_row),
                part=slice(row - start, stop_row - start),
                columns=columns,
                itself=row - columns.start,
                positive=(row + N) % num_views - columns.start,
            )


def joined_rows(parts: list[Tensor]) -> Tensor:
    """The rows of all parts, one after the other; a single part is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _rows_a_block(num_columns: int) -> int:
    return max(MIN_BLOCK_ROWS, BLOCK_SIZE // num_columns)


def similarities(z: Tensor, block: Block, temperature: float = 1.0) -> Tensor:
    """s_ik = z_i . z_k / temperature of a block of z (2N, D), -inf where an anchor meets itself: (R, K)."""
    s = (z[block.rows] / temperature) @ z[block.columns].T  # (R, K)
    s.diagonal(block.itself).fill_(-torch.inf)  # nothing with `other_view`: that diagonal lies outside the block
    return s
