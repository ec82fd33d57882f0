"""`simclr demo` on the images that people bring: what it says, what it exits with."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service import demo
from service.stages import StageFailed
from tests.stack import environment, free_port

SUMMARY = {
    "linear_top1": {"trained": 0.5, "random": 0.3, "pixels": 0.4},
    "knn_top1": {"trained": 0.4, "random": 0.3, "pixels": 0.3},
    "precision_at_10": {"trained": 0.3, "random": 0.2, "pixels": 0.2},
}


def photos(folder: Path, number: int) -> Path:
    """Photographs of different sizes in one folder, among them one that is broken."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(number):
        coarse = rng.integers(0, 256, (6, 5 + i % 3, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((300 + 10 * i, 280), Image.Resampling.BICUBIC).save(folder / f"{i}.jpg")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no photograph")
    return folder


@pytest.mark.slow
def test_a_folder_of_photographs_goes_all_the_way(tmp_path: Path) -> None:
    """Without classes there are no probes, a broken file is named, all else is shown; the exit status is 0."""
    command = [sys.executable, "-P", "-m", "service.cli", "demo", "--data", str(photos(tmp_path / "photos", 24))]
    options = ["--data-dir", str(tmp_path / "data"), "--port", str(free_port())]
    ended = subprocess.run(
        [*command, *options], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Not stored: broken.jpg" in ended.stdout
    assert "No probes and no precision: a probe needs at least 2 classes; the data set has 0" in ended.stdout
    summary = json.loads(ended.stdout.splitlines()[-1])
    assert summary["linear_top1"] == {}
    assert summary["parity_cosine"] > 0.999
    assert set(summary["seconds"]) == {"dataset", "pretrain", "baselines", "images", "index"}


@pytest.mark.parametrize("metric", SUMMARY)
def test_an_encoder_that_is_not_above_its_start_fails(metric: str) -> None:
    """Equal is not above; the message has the metric and both figures."""
    demo._check(SUMMARY)
    worse = {**SUMMARY, metric: {"trained": 0.25, "random": 0.25, "pixels": 0.1}}
    with pytest.raises(StageFailed, match=rf"{metric}: the trained encoder \(0\.250\) is not above"):
        demo._check(worse)


def test_data_that_random_weights_solve_is_no_failure() -> None:
    """Where both are right nearly always, the data can't tell them apart."""
    demo._check({**SUMMARY, "knn_top1": {"trained": 1.0, "random": 1.0, "pixels": 1.0}})
