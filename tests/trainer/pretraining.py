"""A small pretraining run for tests."""

from pathlib import Path
from typing import Any

import numpy as np

from models.preprocess import PREPROCESSING_VERSION
from trainer.pack import PackWriter
from trainer.run import RunFolder, RunSpec

RECIPE: dict[str, Any] = {
    "batch_size": 8,
    "precision": "float32",
    "preprocessing": {"image_size": 16},
    "encoder": {"name": "resnet10", "width": 0.25},
    "head": {"output_size": 8},
    "optimizer": {"learning_rate": 0.5, "scaling": "none"},
    "schedule": {"epochs": 3, "warmup_epochs": 1},
}


def run_folder(path: Path, *, num_others: int = 0, **changes: Any) -> RunFolder:
    """A run folder over 20 random images of 20 x 18 pixels, and as many others in each of `test` and `val`."""
    run = RunFolder(path)
    run.create(RunSpec(kind="pretrain", recipe={**RECIPE, **changes}))
    writer = PackWriter(run.dataset, storage_side=48, preprocessing_version=PREPROCESSING_VERSION)
    rng = np.random.default_rng(0)
    for i, split in enumerate(["train"] * 20 + ["test", "val"] * num_others):
        image = rng.integers(0, 256, (20, 18, 3), dtype=np.uint8)
        writer.add(image, label=i % 2, split=split, sha256=i.to_bytes(32))
    writer.close(["a", "b"])
    return run
