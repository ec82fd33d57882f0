"""W ranks with N / W images each compute what one process computes with N: W = 2 and 4 real processes, in float64."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.config import pretrain_recipe
from models.simclr import SimCLR
from tests.trainer import rank_results
from tests.trainer.gang import run_ranks
from tests.trainer.losses.test_losses import CONFIGS
from tests.trainer.pretraining import RECIPE, run_folder
from tests.trainer.rank_results import NORMS, NUM_IMAGES

TOLERANCES = {"1d": 1e-10, "2d": 1e-10, "2d bfloat16": 0.02}
Results = list[dict[str, Any]]  # one a rank


@pytest.fixture(scope="module", params=[2, 4], ids=["2 ranks", "4 ranks"])
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("ranks")
    run_folder(folder)
    run_ranks(request.param, "-m", "tests.trainer.rank_results", str(folder))
    return [torch.load(folder / f"{rank}.pt") for rank in range(request.param)]


def joined_views(parts: list[Tensor]) -> Tensor:
    """The rows (2n, ...) of each rank as those of one process: all x1, then all x2."""
    x1, x2 = zip(*(part.chunk(2) for part in parts), strict=True)
    return torch.cat((*x1, *x2))


def assert_same(ours: dict[str, Tensor], expected: dict[str, Tensor], *, tolerance: float = 1e-9) -> None:
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            ours[name], value, rtol=tolerance, atol=tolerance / 10, msg=lambda m, name=name: f"{name}: {m}"
        )


def test_every_loss_and_its_gradient_are_those_of_all_images(results: Results) -> None:
    """Each rank has the loss of the global batch and, by its own projections, the whole gradient of it."""
    expected = rank_results.losses()
    for i, config in enumerate(CONFIGS):
        losses, gradients = zip(*(result["losses"][i] for result in results), strict=True)
        for loss in losses:
            torch.testing.assert_close(
                loss, expected[i][0], rtol=1e-12, atol=1e-13, msg=lambda m, c=config: f"{c}: {m}"
            )
        ours = joined_views(gradients)
        torch.testing.assert_close(ours, expected[i][1], rtol=1e-10, atol=1e-13, msg=lambda m, c=config: f"{c}: {m}")


@pytest.mark.parametrize("name", NORMS)
def test_batch_norm_is_that_of_all_ranks_values(results: Results, name: str) -> None:
    """Outputs, gradients, running statistics and evaluation are those of torch's batch norm on the whole batch."""
    whole = rank_results.batch_norm(name)
    by_rows = {key for key in whole if key.startswith(("y", "dx"))}
    ranks = [result["batch_norm"][name] for result in results]
    rows = {key: torch.cat([rank[key] for rank in ranks]) for key in by_rows}
    for rank in ranks:
        assert_same({**rank, **rows}, whole, tolerance=TOLERANCES[name])


def test_training_is_that_of_one_process(results: Results) -> None:
    """Five steps of LARS give the losses, parameters and running statistics of the whole batch, on every rank."""
    for changes, key in (({}, "training"), ({"head": {"num_layers": 0}}, "no head")):
        expected = rank_results.training(**changes)
        for result in results:
            assert_same(result[key], expected)


def test_ranks_stay_equal(results: Results) -> None:
    """After five steps all ranks have the same parameters and running statistics, bit for bit."""
    for result in results[1:]:
        for name, value in result["training"].items():
            assert torch.equal(value, results[0]["training"][name]), name


def test_a_checkpoint_fits_any_number_of_ranks(results: Results) -> None:
    """Parameters and buffers of a model with global batch norm are those of the exported one, by the same names."""
    recipe = pretrain_recipe(RECIPE)
    state = {name: value for name, value in results[0]["training"].items() if name != "losses"}
    assert not SimCLR(recipe).load_state_dict(state).missing_keys


def test_microbatches_of_the_ranks_are_one(results: Results) -> None:
    """The k-th microbatches of all ranks are normalised together; the gradient is that of all images."""
    W, size = len(results), NUM_IMAGES // len(results) // 2
    order = [r * 2 * size + k * size + i for k in range(2) for r in range(W) for i in range(size)]
    expected = rank_results.microbatches(NUM_IMAGES // 2, order)
    for result in results:
        assert_same(result["microbatches"], expected)


def test_a_ranks_views_are_its_rows_of_all_views(results: Results, tmp_path: Path) -> None:
    """Images, their order and their views are those of one process; a rank makes its own alone."""
    expected = rank_results.drawn_views(run_folder(tmp_path).dataset)
    for step, views in enumerate(expected):
        ours = joined_views([result["views"][step] for result in results])
        torch.testing.assert_close(ours, views, rtol=0, atol=1e-6)


def test_a_flag_on_any_rank_is_seen_by_all(results: Results) -> None:
    """Whichever rank raises it, and that one alone; none if none does."""
    for result in results:
        assert result["any"] == [[False, True]] * len(results) + [[False, False]]


def test_all_have_the_bytes_of_the_first(results: Results) -> None:
    """A broadcast gives every rank the first one's content, or None."""
    for result in results:
        assert result["broadcast"] == [b"\0state", None]
