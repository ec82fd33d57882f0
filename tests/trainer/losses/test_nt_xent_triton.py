"""The Triton kernels against their formulas in float64: in Triton's interpreter and, where there is one, on a GPU.

The interpreter must be chosen before Triton is imported, so there the kernels run in a process of their own.
"""

import importlib.util
import math
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

import trainer.compiler
from trainer.losses import nt_xent_triton
from trainer.losses.nt_xent import nt_xent

Functions = Callable[..., tuple[Tensor, Tensor]]
"""(z, start, stop, temperature, other_view=) -> log_sum_exp (R,) and weighted_sums (R, D)."""

needs_triton = pytest.mark.skipif(nt_xent_triton.triton is None, reason="Triton has no package for this machine")
needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 0), reason="needs a CUDA device with TF32"
)

# N, D, start, stop: sizes below, at and between multiples of the blocks (128 rows, 64 or 32 columns, 32 of D), and
# ranges that begin and end anywhere.
SIZES = [(1, 2, 0, 2), (5, 3, 2, 7), (32, 32, 0, 64), (70, 20, 0, 140), (70, 33, 65, 75), (97, 5, 13, 190)]
LENGTHS_AND_TEMPERATURES = [(1.0, 0.05), (1.0, 0.5), (30.0, 100.0), (60.0, 10.0), (30.0, 1.0)]


def projections(n: int, d: int, *, length: float = 1.0) -> Tensor:
    """2N random vectors, float32: all of length 1, or of lengths around another `length`."""
    z = torch.randn(2 * n, d, generator=torch.Generator().manual_seed(n + d))
    return torch.nn.functional.normalize(z, dim=1) if length == 1 else z * length / d**0.5


def similarities(z: Tensor, temperature: float, *, other_view: bool) -> Tensor:
    """The s of all views (2N, 2N), -inf where a pair isn't allowed."""
    n = len(z) // 2
    views = range(2 * n)
    allowed = [[k != i and (not other_view or (i < n) != (k < n)) for k in views] for i in views]
    return torch.where(torch.tensor(allowed, device=z.device), z @ z.T / temperature, -torch.inf)


def formulas(z: Tensor, start: int, stop: int, temperature: float, *, other_view: bool) -> tuple[Tensor, Tensor]:
    """Both functions as dense matrices in float64."""
    z = z.double()
    s = similarities(z, temperature, other_view=other_view)
    lse = s.logsumexp(1)
    P = (s - lse[:, None]).exp()
    return lse[start:stop], ((P + P.T) @ z)[start:stop]


def kernels(z: Tensor, start: int, stop: int, temperature: float, *, other_view: bool) -> tuple[Tensor, Tensor]:
    """Both functions by the kernels, where z is."""
    lse = nt_xent_triton.log_sum_exp(z, 0, len(z), temperature, other_view)
    rows = nt_xent_triton.log_sum_exp(z, start, stop, temperature, other_view)
    return rows, nt_xent_triton.weighted_sums(z, lse, start, stop, temperature, other_view)


def assert_equal_formulas(
    functions: Functions, z: Tensor, start: int, stop: int, temperature: float, *, other_view: bool
) -> None:
    """Float32's error e of the largest s is an error e of lse, and a relative error 2e of each weight."""
    expected_lse, expected_sums = formulas(z, start, stop, temperature, other_view=other_view)
    lse, sums = functions(z, start, stop, temperature, other_view=other_view)
    assert lse.dtype == sums.dtype == torch.float32
    error = 1e-6 * max(1.0, z.double().square().sum(1).max().item() / temperature)
    torch.testing.assert_close(lse.double(), expected_lse, rtol=1e-6, atol=error)
    torch.testing.assert_close(sums.double(), expected_sums, rtol=0, atol=2 * error * expected_sums.abs().max().item())


def interpret(num_splits: int, z: np.ndarray, *range_and_temperature: Any, other_view: bool) -> list[np.ndarray]:
    """In the interpreter's process: both functions, with so many programs to a block of rows."""
    nt_xent_triton._num_splits = lambda num_programs, column_blocks, device: num_splits
    results = kernels(torch.from_numpy(z), *range_and_temperature, other_view=other_view)
    return [result.numpy() for result in results]


@pytest.fixture(scope="module")
def interpreter() -> Iterator[ProcessPoolExecutor]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TRITON_INTERPRET", "1")
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            pool.submit(int).result()  # the process has read the environment
            environment.undo()
            yield pool


@pytest.fixture
def interpreted(interpreter: ProcessPoolExecutor) -> Callable[[int], Functions]:
    """The kernels in the interpreter, for a number of programs to a block of rows."""

    def with_splits(num_splits: int) -> Functions:
        def functions(z: Tensor, *range_and_temperature: Any, other_view: bool) -> tuple[Tensor, Tensor]:
            job = interpreter.submit(interpret, num_splits, z.numpy(), *range_and_temperature, other_view=other_view)
            lse, sums = job.result()
            return torch.from_numpy(lse), torch.from_numpy(sums)

        return functions

    return with_splits


@needs_triton
@pytest.mark.parametrize("other_view", [False, True])
@pytest.mark.parametrize(("n", "d", "start", "stop"), SIZES)
def test_interpreted_kernels_equal_their_formulas(
    interpreted: Callable[[int], Functions], n: int, d: int, start: int, stop: int, *, other_view: bool
) -> None:
    """Both kernels give the formulas' values for rows start..stop, whatever the sizes, in both modes."""
    assert_equal_formulas(interpreted(1), projections(n, d), start, stop, 0.1, other_view=other_view)


@needs_triton
@pytest.mark.parametrize(("length", "temperature"), LENGTHS_AND_TEMPERATURES)
def test_interpreted_kernels_take_any_logits(
    interpreted: Callable[[int], Functions], length: float, temperature: float
) -> None:
    """Vectors that aren't normalised have logits far above 88, where exp overflows float32; the kernels' don't."""
    z = projections(40, 8, length=length)
    assert_equal_formulas(interpreted(1), z, 3, 77, temperature, other_view=False)


@needs_triton
def test_interpreted_kernels_take_logits_far_below_zero(interpreted: Callable[[int], Functions]) -> None:
    """Two opposite views at s = -200 are each other's only choice: lse is -200, both weights are 1."""
    z = torch.tensor([[10.0, 0.0], [-10.0, 0.0]])
    lse, sums = interpreted(2)(z, 0, 2, 0.5, other_view=False)
    torch.testing.assert_close(lse, torch.tensor([-200.0, -200.0]))
    torch.testing.assert_close(sums, 2 * z.flip(0))


@needs_triton
@pytest.mark.parametrize("other_view", [False, True])
@pytest.mark.parametrize("num_splits", [2, 3, 6])
def test_how_many_programs_share_a_row_changes_nothing(
    interpreted: Callable[[int], Functions], num_splits: int, *, other_view: bool
) -> None:
    """Shares of the columns that aren't equal, have no allowed pair, or are empty add up to the formulas' values."""
    assert_equal_formulas(interpreted(num_splits), projections(97, 9), 5, 180, 0.1, other_view=other_view)


@needs_triton
@pytest.mark.parametrize("d", [64, 65, 130])
def test_wide_projections_are_summed_in_blocks(interpreted: Callable[[int], Functions], d: int) -> None:
    """A D above the width of a block of sums, 64 or 128, is summed block by block."""
    assert_equal_formulas(interpreted(1), projections(20, d), 0, 40, 0.1, other_view=False)


@needs_triton
def test_weighted_sums_are_the_gradient_of_log_sum_exp(interpreted: Callable[[int], Functions]) -> None:
    """d/dz of sum_i lse_i is weighted_sums / temperature, by automatic differentiation of the dense formula."""
    z = projections(20, 6)
    dense = z.double().requires_grad_()
    (expected,) = torch.autograd.grad(similarities(dense, 0.5, other_view=False).logsumexp(1).sum(), dense)
    _, sums = interpreted(1)(z, 0, 40, 0.5, other_view=False)
    torch.testing.assert_close(sums.double() / 0.5, expected, rtol=1e-5, atol=1e-5)


class Launches:
    """Takes a kernel's place and keeps what it was launched with."""

    def __getitem__(self, grid: tuple[int, ...]) -> "Launches":
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs


@needs_triton
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("name", ["_log_sum_exp_kernel", "_weighted_sums_kernel"])
def test_kernels_compile_for_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, capability: int) -> None:
    """As launched for D = 128 they compile without a GPU, use TF32 thrice and fit an A100's shared memory."""
    from triton.backends.compiler import GPUTarget  # noqa: PLC0415 # not everywhere
    from triton.compiler import ASTSource, compile  # noqa: A004, PLC0415

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel, launches = getattr(nt_xent_triton, name), Launches()
    monkeypatch.setattr(nt_xent_triton, "_log_sum_exp_kernel", launches)
    z = projections(70, 128)
    if name == "_log_sum_exp_kernel":
        nt_xent_triton.log_sum_exp(z, 0, 140, 0.1, other_view=True)
    else:
        monkeypatch.setattr(nt_xent_triton, "_weighted_sums_kernel", launches)
        nt_xent_triton.weighted_sums(z, z[:, 0], 0, 140, 0.1, other_view=True)
    options = {key: value for key, value in launches.kwargs.items() if key in nt_xent_triton.LAUNCH}
    constants = {key: value for key, value in launches.kwargs.items() if key not in options}
    types = {Tensor: "*fp32", int: "i32", float: "fp32"}
    arguments = [types[type(argument)] for argument in launches.args] + ["constexpr"] * len(constants)
    signature = dict(zip(kernel.arg_names, arguments, strict=True))
    aligned = {(i,): [["tt.divisibility", 16]] for i, argument in enumerate(launches.args) if type(argument) is Tensor}
    source = ASTSource(kernel, signature, constants, aligned)
    compiled = compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert compiled.metadata.shared <= 163 * 1024
    dots = [line for line in compiled.asm["ttir"].splitlines() if "tt.dot" in line]
    assert dots
    assert all("tf32x3" in line for line in dots)
    assert ("wgmma.mma_async" if capability == 90 else "mma.sync") in compiled.asm["ptx"]


@pytest.mark.parametrize(
    ("num_programs", "column_blocks", "splits"),
    [(1, 9999, 528), (8, 9999, 66), (8, 16, 16), (300, 9999, 1), (528, 9999, 1), (1000, 9999, 1)],
)
def test_few_rows_are_shared_by_more_programs(
    monkeypatch: pytest.MonkeyPatch, num_programs: int, column_blocks: int, splits: int
) -> None:
    """132 processors get up to 4 programs each, if there are columns for them; a grid that has them isn't split."""
    monkeypatch.setattr(nt_xent_triton, "_num_processors", lambda device: 132)
    assert nt_xent_triton._num_splits(num_programs, column_blocks, torch.device("cuda")) == splits


@pytest.mark.parametrize(
    ("change", "supported"),
    [
        ({}, True),
        ({"capability": (8, 0)}, True),
        ({"capability": (8, 9)}, False),
        ({"device": "cpu"}, False),
        ({"compiler": False}, False),
        ({"triton": None}, False),
        ({"dtype": torch.float64}, False),
        ({"shape": (64, 256)}, True),
        ({"shape": (64, 257)}, False),
        ({"shape": (2**24, 128)}, False),
    ],
)
def test_what_the_kernels_take(monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], *, supported: bool) -> None:
    """Float32 up to D = 256 and 2^31 - 1 elements, on GPUs with fast TF32 beside a C compiler; else PyTorch."""
    usual = {
        "device": "cuda",
        "compiler": True,
        "triton": "any",
        "capability": (9, 0),
        "dtype": torch.float32,
        "shape": (64, 128),
    }
    z = usual | change
    monkeypatch.setattr(nt_xent_triton, "triton", z["triton"])
    monkeypatch.setattr(trainer.compiler, "has_c_compiler", lambda: z["compiler"])
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: z["capability"])
    stand_in = SimpleNamespace(**z | {"device": torch.device(z["device"])}, numel=lambda: math.prod(z["shape"]))
    assert nt_xent_triton.supports(cast("Tensor", stand_in)) == supported


def test_the_module_is_importable_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Triton has no package the import succeeds and `supports` says no."""
    monkeypatch.setitem(sys.modules, "triton", None)
    spec = importlib.util.spec_from_file_location("without_triton", Path(nt_xent_triton.__file__))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.triton is None
    assert not module.supports(projections(4, 8))


@needs_cuda
@pytest.mark.gpu
@pytest.mark.parametrize("other_view", [False, True])
@pytest.mark.parametrize(
    ("n", "d", "start", "stop"), [*SIZES, (600, 128, 0, 1200), (600, 256, 333, 901), (2000, 130, 100, 200)]
)
def test_kernels_on_a_gpu_equal_their_formulas(n: int, d: int, start: int, stop: int, *, other_view: bool) -> None:
    """On a GPU, TF32 thrice keeps float32's accuracy, whatever the sizes, in both modes."""
    assert_equal_formulas(kernels, projections(n, d).cuda(), start, stop, 0.1, other_view=other_view)


@needs_cuda
@pytest.mark.gpu
@pytest.mark.parametrize(("length", "temperature"), LENGTHS_AND_TEMPERATURES)
def test_kernels_on_a_gpu_take_any_logits(length: float, temperature: float) -> None:
    """On a GPU too, large logits don't overflow."""
    z = projections(300, 64, length=length).cuda()
    assert_equal_formulas(kernels, z, 3, 577, temperature, other_view=False)


@needs_cuda
@pytest.mark.gpu
def test_a_gpu_repeats_its_results() -> None:
    """The order of every sum is fixed: the same z has the same results, bit for bit."""
    z = projections(700, 128).cuda()
    first, second = (kernels(z, 0, 1400, 0.1, other_view=False) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@needs_cuda
@pytest.mark.gpu
@pytest.mark.parametrize(("normalize", "temperature"), [(True, 0.1), (False, 10.0)])
def test_the_loss_on_a_gpu_is_that_of_the_cpu(
    monkeypatch: pytest.MonkeyPatch, *, normalize: bool, temperature: float
) -> None:
    """NT-Xent through the kernels has the loss and the gradient of the float64 loss on the CPU."""
    exact = (8 * projections(500, 128)).double().requires_grad_()
    z = exact.detach().float().cuda().requires_grad_()
    expected = nt_xent(exact, temperature, normalize=normalize)
    monkeypatch.setattr(nt_xent_triton, "supports", lambda z: True)
    loss = nt_xent(z, temperature, normalize=normalize)
    (expected_gradient,) = torch.autograd.grad(expected, exact)
    (gradient,) = torch.autograd.grad(loss, z)
    torch.testing.assert_close(loss.double().cpu(), expected, rtol=1e-5, atol=0)
    largest = expected_gradient.abs().max().item()
    torch.testing.assert_close(gradient.double().cpu(), expected_gradient, rtol=0, atol=2e-5 * largest)
