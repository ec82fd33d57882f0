"""NT-Xent's two inner functions as Triton kernels: similarities are made, used and dropped on the chip.

Legend: N images, 2N views, D projection dim, R = stop - start rows of a call. A program owns BLOCK_ROWS of these and
walks over columns, BLOCK_COLUMNS at a time; where there are too few rows to fill the GPU, S programs share a block of
rows, each with its part of the columns. No atomics: on one kind of GPU the same z has the same results.

    s_ik = z_i . z_k / temperature; -inf for i = k and, with `other_view`, for i and k in the same half of z
    lse_i = log sum_k exp(s_ik)
    P_ik = exp(s_ik - lse_i), at most 1

Products are "tf32x3": a float32 is the sum of two TF32, three products of which keep nearly float32's accuracy.
"""

from __future__ import annotations  # the kernels' are never evaluated where Triton is missing

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trainer.compiler import compiles_for

try:
    import triton
    import triton.language as tl
except ImportError:  # PyTorch brings it to Linux and CUDA alone
    triton = None

# With these, the kernels need at most 64 KiB of shared memory and spill at most 24 bytes of a thread's registers
# (Triton 3.6 and 3.9, compute capability 8.0 and 9.0, D = 128).
BLOCK_ROWS = 128
BLOCK_D = 32
COLUMNS_OF_LOG_SUM_EXP = 64
COLUMNS_OF_WEIGHTED_SUMS = 32
LAUNCH = {"num_warps": 8, "num_stages": 3, "enable_fp_fusion": True}

# Three TF32 products must be faster than one of float32. TF32 is over seven times as fast on A100, H100, H200 and B200,
# but only once or twice on 8.6, 8.9 and 12.0.
CAPABILITIES = {(8, 0), (9, 0), (10, 0)}
MAX_D = 256  # each further 128 of D makes the similarities once more
MAX_ELEMENTS = 2**31 - 1  # of z: offsets are int32
PROGRAMS_PER_PROCESSOR = 4  # enough that the last, partly filled round of programs costs little


def _jit(kernel: Callable[..., Any]) -> Any:
    return triton.jit(kernel) if triton else kernel


@_jit
def _load(z: tl.tensor, rows: tl.tensor, num_rows: tl.tensor, features: tl.tensor, D: tl.constexpr) -> Any:
    """A block of z, zeros outside z: (len(rows), len(features))."""
    i, d = rows[:, None], features[None, :]
    return tl.load(z + i * D + d, mask=(i < num_rows) & (d < D), other=0.0)


@_jit
def _similarities(
    z: tl.tensor,
    rows: tl.tensor,
    columns: tl.tensor,
    num_views: tl.tensor,
    inverse_temperature: tl.tensor,
    D: tl.constexpr,
    OTHER_VIEW: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> Any:
    """A block of s, -inf outside s: (len(rows), len(columns)). Walking over D too keeps operands in registers."""
    s = tl.zeros((rows.shape[0], columns.shape[0]), tl.float32)
    for d in range(0, D, BLOCK_D):
        features = d + tl.arange(0, BLOCK_D)
        z_rows = _load(z, rows, num_views, features, D)
        z_columns = _load(z, columns, num_views, features, D)
        s = tl.dot(z_rows, tl.trans(z_columns), s, input_precision="tf32x3")
    i, k = rows[:, None], columns[None, :]
    allowed = (i != k) & (k < num_views)
    if OTHER_VIEW:
        allowed = allowed & ((i < num_views // 2) != (k < num_views // 2))
    return tl.where(allowed, s * inverse_temperature, float("-inf"))


@_jit
def _log_sum_exp_kernel(
    z: tl.tensor,
    partial: tl.tensor,
    start: tl.tensor,
    stop: tl.tensor,
    num_views: tl.tensor,
    inverse_temperature: tl.tensor,
    D: tl.constexpr,
    OTHER_VIEW: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> None:
    """Grid (blocks of rows, S): lse of each row over this program's columns, into partial (S, R).

    exp is taken of s minus the largest s so far; a larger one scales the sum down.
    """
    rows = start + tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    largest = tl.full((BLOCK_ROWS,), -3e38, tl.float32)  # finite: -inf - -inf would be NaN
    total = tl.zeros((BLOCK_ROWS,), tl.float32)
    width = tl.cdiv(tl.cdiv(num_views, BLOCK_COLUMNS), tl.num_programs(1)) * BLOCK_COLUMNS
    first = tl.program_id(1) * width
    for column in range(first, tl.minimum(first + width, num_views), BLOCK_COLUMNS):
        columns = column + tl.arange(0, BLOCK_COLUMNS)
        s = _similarities(z, rows, columns, num_views, inverse_temperature, D, OTHER_VIEW, BLOCK_D)
        larger = tl.maximum(largest, tl.max(s, 1))
        total = total * tl.exp(largest - larger) + tl.sum(tl.exp(s - larger[:, None]), 1)
        largest = larger
    tl.store(partial + tl.program_id(1) * (stop - start) + rows - start, largest + tl.log(total), mask=rows < stop)


@_jit
def _weighted_sums_kernel(
    z: tl.tensor,
    lse: tl.tensor,
    partial: tl.tensor,
    start: tl.tensor,
    stop: tl.tensor,
    num_views: tl.tensor,
    inverse_temperature: tl.tensor,
    D: tl.constexpr,
    OTHER_VIEW: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_SUMS: tl.constexpr,
) -> None:
    """Grid (blocks of rows, S, blocks of D): sums over this program's columns, into partial (S, R, D)."""
    rows = start + tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    features = tl.program_id(2) * BLOCK_SUMS + tl.arange(0, BLOCK_SUMS)
    lse_rows = tl.load(lse + rows, mask=rows < num_views, other=0.0)
    total = tl.zeros((BLOCK_ROWS, BLOCK_SUMS), tl.float32)
    width = tl.cdiv(tl.cdiv(num_views, BLOCK_COLUMNS), tl.num_programs(1)) * BLOCK_COLUMNS
    first = tl.program_id(1) * width
    for column in range(first, tl.minimum(first + width, num_views), BLOCK_COLUMNS):
        columns = column + tl.arange(0, BLOCK_COLUMNS)
        s = _similarities(z, rows, columns, num_views, inverse_temperature, D, OTHER_VIEW, BLOCK_D)
        lse_columns = tl.load(lse + columns, mask=columns < num_views, other=0.0)
        weights = tl.exp(s - lse_rows[:, None]) + tl.exp(s - lse_columns[None, :])  # P_ik + P_ki
        total = tl.dot(weights, _load(z, columns, num_views, features, D), total, input_precision="tf32x3")
    i, d = (tl.program_id(1) * (stop - start) + rows - start)[:, None], features[None, :]
    tl.store(partial + i * D + d, total, mask=(rows[:, None] < stop) & (d < D))


def _num_processors(device: torch.device) -> int:
    """Multiprocessors of the GPU; Triton's interpreter has one processor."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def _num_splits(num_programs: int, column_blocks: int, device: torch.device) -> int:
    """S for a grid of `num_programs` without it: as many as fill the GPU, from 1 to one for each block of columns."""
    return min(column_blocks, max(1, PROGRAMS_PER_PROCESSOR * _num_processors(device) // num_programs))


def supports(z: Tensor) -> bool:
    """Whether the kernels take z (2N, D) and gain by it: float32, D <= MAX_D, on a GPU of CAPABILITIES."""
    return (
        triton is not None
        and compiles_for(z.device)
        and torch.version.hip is None  # AMD's GPUs have capabilities of their own
        and torch.cuda.get_device_capability(z.device) in CAPABILITIES
        and z.dtype == torch.float32
        and z.shape[1] <= MAX_D
        and z.numel() <= MAX_ELEMENTS
    )


def log_sum_exp(z: Tensor, start: int, stop: int, temperature: float, other_view: bool) -> Tensor:  # noqa: FBT001
    """The lse of rows start..stop: (R,), float32. z (2N, D) is one that `supports` accepts, normalised or not."""
    row_blocks = triton.cdiv(stop - start, BLOCK_ROWS)
    splits = _num_splits(row_blocks, triton.cdiv(len(z), COLUMNS_OF_LOG_SUM_EXP), z.device)
    partial = z.new_empty(splits, stop - start)  # (S, R)
    with torch.cuda.device(z.get_device()):  # Triton launches on the current one
        _log_sum_exp_kernel[row_blocks, splits](
            z.contiguous(),
            partial,
            start,
            stop,
            len(z),
            1 / temperature,
            D=z.shape[1],
            OTHER_VIEW=other_view,
            BLOCK_ROWS=BLOCK_ROWS,
            BLOCK_COLUMNS=COLUMNS_OF_LOG_SUM_EXP,
            BLOCK_D=BLOCK_D,
            **LAUNCH,
        )
    return partial.logsumexp(0)  # (R,)


def weighted_sums(z: Tensor, lse: Tensor, start: int, stop: int, temperature: float, other_view: bool) -> Tensor:  # noqa: FBT001
    """sum_k (P_ik + P_ki) z_k of rows i in start..stop: (R, D), float32. lse (2N,) is that of all rows of z (2N, D)."""
    D = z.shape[1]
    block_sums = 64 if D <= 64 else 128
    row_blocks, blocks_of_sums = triton.cdiv(stop - start, BLOCK_ROWS), triton.cdiv(D, block_sums)
    column_blocks = triton.cdiv(len(z), COLUMNS_OF_WEIGHTED_SUMS)
    splits = _num_splits(row_blocks * blocks_of_sums, column_blocks, z.device)
    partial = z.new_empty(splits, stop - start, D)  # (S, R, D)
    with torch.cuda.device(z.get_device()):
        _weighted_sums_kernel[row_blocks, splits, blocks_of_sums](
            z.contiguous(),
            lse.contiguous(),
            partial,
            start,
            stop,
            len(z),
            1 / temperature,
            D=D,
            OTHER_VIEW=other_view,
            BLOCK_ROWS=BLOCK_ROWS,
            BLOCK_COLUMNS=COLUMNS_OF_WEIGHTED_SUMS,
            BLOCK_D=BLOCK_D,
            BLOCK_SUMS=block_sums,
            **LAUNCH,
        )
    return partial.sum(0)  # (R, D)
