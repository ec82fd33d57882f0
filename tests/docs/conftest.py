"""A service that somebody has used as the tutorial and the notebook say, and a folder as theirs."""

import contextlib
import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from service.cli import app
from service.client import Client
from tests.docs.pages import ROOT
from tests.stack import Stack

NOTEBOOK = ROOT / "docs" / "client.ipynb"
COLLECTIONS = ("photos", "textures", "pets", "mine")


def photograph(i: int) -> Image.Image:
    """Coarse colours, of a size of its own."""
    coarse = np.random.default_rng(i).integers(0, 256, (6, 5 + i % 3, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((120 + 10 * i, 100), Image.Resampling.BICUBIC)


@pytest.fixture(scope="package")
def clean_stack(stack: Stack) -> Iterator[Stack]:
    """The stack; no image is left that the models of other tests would have to index."""
    yield stack
    with Client(stack.base_url) as client:
        for collection in list(client.list_collections()):
            if collection["name"] in COLLECTIONS:
                client.delete_collection(collection["id"])


@dataclass(frozen=True)
class Trained:
    """Twelve photographs of one folder, without labels, and what `simclr train` printed of them."""

    folder: Path
    printed: str


@pytest.fixture(scope="package")
def trained(clean_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The tutorial's command, for a moment instead of ten minutes; a broken file is among the photographs."""
    folder = tmp_path_factory.mktemp("own") / "photos"
    folder.mkdir()
    for i in range(12):
        photograph(i).save(folder / f"{i:02}.jpg")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no photograph")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.commands.output.console", Console(width=200))
        arguments = ["train", str(folder), "--minutes", "0.005", "--url", clean_stack.base_url]
        result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return Trained(folder, result.output)


@dataclass(frozen=True)
class RunNotebook:
    """What the notebook's cells printed, and the names that they left."""

    printed: str
    names: dict[str, Any]


@pytest.fixture(scope="package")
def notebook(clean_stack: Stack) -> RunNotebook:
    """Every cell, in order, against the running service."""
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    names: dict[str, Any] = {}
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setenv("SIMCLR_URL", clean_stack.base_url)
        for cell in cells:
            exec("".join(cell["source"]), names)
    return RunNotebook(printed.getvalue(), names)


@pytest.fixture(scope="package")
def ids(clean_stack: Stack, trained: Trained, notebook: RunNotebook) -> dict[str, str]:
    """What the documents call $DATASET, $MODEL, $JOB and $PROBE."""
    dataset_id, job = notebook.names["dataset"]["id"], notebook.names["job"]
    model_id = job["result"]["model_id"]
    recipe = {"num_l2_values": 1, "l2_max": 1.0}
    with Client(clean_stack.base_url) as client:
        probe = client.submit("linear_probe", dataset_id=dataset_id, model_id=model_id, recipe=recipe)
        client.wait_for_job(probe["id"])
    return {"DATASET": dataset_id, "MODEL": model_id, "JOB": job["id"], "PROBE": probe["id"]}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder has `photos/` of cats and dogs, the same as `photos.zip`, and one of them as `query.jpg`."""
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for i in range(8):
            path = tmp_path / "photos" / ("cat", "dog")[i % 2] / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            photograph(20 + i).save(path)
            archive.write(path, path.relative_to(tmp_path / "photos"))
    shutil.copy(tmp_path / "photos" / "cat" / "0.jpg", tmp_path / "query.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path
