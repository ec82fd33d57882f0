import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil

from models.preprocess import ImageLimits, decode, to_storage
from tests.trainer.images import image_file, slow_jpeg
from trainer.decoding import BATCH_IMAGES, DecodingPool, Refused, Stored

LIMITS = ImageLimits(max_bytes=2**20, max_pixels=10**7, max_side=10**4)


def test_outcomes_are_those_of_decoding_here_in_order() -> None:
    """Over several batches, each image comes back reduced as this process would, each bad file with its reason."""
    members = [(f"{i}", image_file(i, size=(40 + i % 7, 33))) for i in range(2 * BATCH_IMAGES + 5)]
    members[BATCH_IMAGES] = ("bad", b"no image")
    with DecodingPool(LIMITS, 32, timeout_seconds=60) as pool:
        outcomes = list(pool.decode(members))
    assert [name for name, _ in outcomes] == [name for name, _ in members]
    for (_, content), (name, outcome) in zip(members, outcomes, strict=True):
        if name == "bad":
            assert outcome == Refused("unsupported_format", "not a JPEG, PNG or WebP file")
            continue
        decoded = decode(content, LIMITS)
        assert isinstance(outcome, Stored)
        assert (outcome.width, outcome.height) == (decoded.width, decoded.height)
        np.testing.assert_array_equal(outcome.pixels, to_storage(decoded.pixels, 32))


def test_a_slow_image_costs_its_time_limit_alone() -> None:
    """A scan bomb among good images is killed and named; the images before and after it are decoded."""
    members = [(f"{i}", image_file(i)) for i in range(6)]
    members.insert(3, ("bomb", slow_jpeg()))
    with DecodingPool(LIMITS, 32, timeout_seconds=1.5) as pool:
        outcomes = dict(pool.decode(members))
    assert outcomes.pop("bomb") == Refused("decode_timeout", "decoding it takes too long")
    assert [type(outcome) for outcome in outcomes.values()] == [Stored] * 6


def test_a_crash_is_blamed_on_its_image() -> None:
    """An image whose process is killed is refused, and the pool goes on."""
    with DecodingPool(LIMITS, 32, timeout_seconds=60) as pool, ThreadPoolExecutor() as thread:
        outcome = thread.submit(next, pool.decode([("killer", slow_jpeg(20_000))]))
        _busy_child().kill()
        assert outcome.result(timeout=30) == ("killer", Refused("undecodable", "its decoder crashed"))
        ((_, good),) = pool.decode([("good", image_file(1))])
        assert isinstance(good, Stored)


def _busy_child() -> psutil.Process:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for child in psutil.Process().children():
            if child.cpu_times().user > 1.5:  # longer than it takes to start
                return child
    raise AssertionError("no process is decoding")
