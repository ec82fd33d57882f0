import numpy as np
import pytest
import torch
from scipy import stats

from tests.trainer.augment import reference
from tests.trainer.augment.drawn import draw, noise_images
from trainer.augment.noise import Noise, add_noise, mix, normal_numbers

SIZE = 64
POSITIONS = mix(torch.arange(3 * SIZE * SIZE)).view(3, 1, SIZE, SIZE)


def numbers(key: torch.Tensor) -> torch.Tensor:
    """The standard normal numbers of keys (V, 2), (3, V, SIZE, SIZE), where the noise of sigma 1 is read off."""
    return torch.stack([normal_numbers(key, positions, torch.float64) for positions in POSITIONS])


def keys(num_views: int) -> torch.Tensor:
    return draw(Noise, "noise", num_views).key[0]


def test_noise_is_the_formula() -> None:
    """Noise is Box and Muller's transform of the hashes, computed by NumPy, times sigma, clipped, in float64."""
    noise = draw(Noise, "noise", 4, noise_probability=0.7, noise_sigma=(0.1, 0.5))
    planes = noise_images(8, 9)
    result = noise(planes.clone())
    assert 0 < (noise.sigma == 0).sum() < 8
    for index in range(8):
        expected = reference.changed(planes[:, index], noise, *divmod(index, 4))
        torch.testing.assert_close(result[:, index], expected, rtol=0, atol=1e-14)


def test_the_hash_is_wellons_lowbias32() -> None:
    """Undone by its published inverse, the hash gives back every number, the largest and the smallest among them."""
    rng = np.random.default_rng(0)
    x = np.concatenate(([0, 1, 2**31 - 1, 2**31, 2**32 - 1], rng.integers(0, 2**32, 1000)))
    y = mix(torch.from_numpy(x)).numpy().astype(np.uint32)
    y = (y ^ (y >> np.uint32(16))) * np.uint32(0x43021123)
    y = (y ^ (y >> np.uint32(15)) ^ (y >> np.uint32(30))) * np.uint32(0x1D69E2A5)
    assert np.array_equal(y ^ (y >> np.uint32(16)), x)


def test_noise_is_normal() -> None:
    """The numbers of a view, and those of a pixel over views, are standard normal (Kolmogorov-Smirnov)."""
    by_view = numbers(keys(4)).transpose(0, 1).flatten(1)
    for view in by_view:
        assert stats.kstest(view, stats.norm.cdf).pvalue > 1e-3
    over_views = torch.stack([normal_numbers(keys(4000), POSITIONS[1, :, :1, x], torch.float64) for x in (0, 1)])
    for pixel in over_views.flatten(1):
        assert stats.kstest(pixel, stats.norm.cdf).pvalue > 1e-3


def test_neighbours_are_not_correlated() -> None:
    """Neither neighbouring pixels nor channels, views, or squares of neighbours are correlated."""
    z = numbers(keys(6))
    pairs = {
        "columns": (z[..., 1:], z[..., :-1]),
        "rows": (z[..., 1:, :], z[..., :-1, :]),
        "channels": (z[1:], z[:-1]),
        "views": (z[:, 1:], z[:, :-1]),
    }
    for name, (a, b) in pairs.items():
        for power in (1, 2):
            r = np.corrcoef((a**power).flatten(), (b**power).flatten())[0, 1]
            assert abs(r) < 4 / np.sqrt(a.numel()), (name, power)


def test_close_keys_share_no_numbers() -> None:
    """Views whose keys differ by one bit don't show the same noise at other places."""
    z = numbers(torch.tensor([[6, 6], [7, 7], [4, 4]])).transpose(0, 1).flatten(1)
    assert not torch.isin(z[0], z[1]).any()
    assert not torch.isin(z[0], z[2]).any()


def test_float32_noise_is_float64s() -> None:
    """In float32, as on a device that computes so, the noise is that of float64 to 1e-5 of its sigma."""
    planes, sigma = torch.full((3, 5, SIZE, SIZE), 0.5, dtype=torch.float64), torch.full((5, 1, 1), 0.05)
    exact = add_noise(planes, sigma, keys(5))
    torch.testing.assert_close(add_noise(planes.float(), sigma, keys(5)).double(), exact, rtol=0, atol=5e-7)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_noise_stays_within_range(value: float) -> None:
    """Noise is clipped to [0, 1]."""
    result = add_noise(torch.full((3, 1, 16, 16), value), torch.ones(1, 1, 1), keys(1))
    assert (result.min(), result.max()) == (0, 1)
