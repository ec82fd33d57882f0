"""From a folder of one's own images to a search: the one command, and the notebook."""

import contextlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from service.cli import app
from service.client import Client
from tests.stack import Stack

NOTEBOOK = Path(__file__).parents[1] / "docs" / "client.ipynb"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve photographs of one folder, without labels, and one file that is broken."""
    folder = tmp_path / "My photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        coarse = rng.integers(0, 256, (6, 5 + i % 3, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((120 + 10 * i, 100), Image.Resampling.BICUBIC).save(folder / f"{i:02}.jpg")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no photograph")
    return folder


@pytest.fixture(autouse=True)
def _empty(stack: Stack) -> Iterator[None]:
    """No image is left that the models of other tests would have to index."""
    yield
    with Client(stack.base_url) as client:
        for collection in list(client.list_collections()):
            if collection["name"] in {"My-photos", "textures"}:
                client.delete_collection(collection["id"])


def simclr(stack: Stack, *arguments: object) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments), "--url", stack.base_url])
    assert result.exit_code == 0, result.output
    return result.output


def test_one_command_goes_from_a_folder_to_a_search(
    stack: Stack, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unlabelled photographs: trained on, served, stored, searched; then the commands that it names work."""
    monkeypatch.setattr("service.commands.output.console", Console(width=200))
    shown = simclr(stack, "train", photos, "--minutes", "0.005")
    assert re.search(r"12 images; pretraining with cpu-small, \d+ epochs, about 1 min", shown)
    assert "Not stored: broken.jpg" in shown
    assert "12 images in the collection My-photos. Like 00.jpg:" in shown
    rows = re.findall(r"(0\.\d{4}|1\.0000) +│ (\d\d)\.jpg", shown)
    assert len(rows) == 5
    assert "00" not in {name for _, name in rows}
    assert f"The page: {stack.base_url}/\n" in shown
    assert "simclr up" not in shown  # it runs already
    with Client(stack.base_url) as client:
        assert client.get_collection("My-photos")["num_images"] == 12
        [alias] = [alias for alias in client.list_aliases() if alias["name"] == "production"]
        h = client.embed(sorted(photos.glob("[0-9]*.jpg")), model=alias["model_id"])
    h /= np.linalg.norm(h, axis=1, keepdims=True)
    expected = np.sort(h[1:] @ h[0])[::-1][:5]
    np.testing.assert_allclose([float(score) for score, _ in rows], expected, atol=2e-4)
    [search] = re.findall(r"simclr (search) PHOTO.jpg --collection My-photos", shown)
    assert "03.jpg" in simclr(stack, search, photos / "03.jpg", "--collection", "My-photos", "--k", 1)
    assert "wrote" in simclr(stack, "embed", photos / "03.jpg", "--out", tmp_path / "vectors.npy")
    assert np.load(tmp_path / "vectors.npy").shape == (1, h.shape[1])


def test_the_notebook_runs(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell, in order, against a running service; what it finds is what its text says."""
    monkeypatch.setenv("SIMCLR_URL", stack.base_url)
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    names: dict[str, object] = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for cell in cells:
            exec("".join(cell["source"]), names)
    assert "24 pictures\n24 images of across, along, diagonal\n" in printed.getvalue()
    [(first, last)] = re.findall(r"loss (\d\.\d\d) -> (\d\.\d\d)\n\(24, 128\) float32\n", printed.getvalue())
    assert float(last) < float(first)
    assert "{'created'}\n" in printed.getvalue()


def test_the_notebook_s_outputs_are_small() -> None:
    """It is read, and compared in reviews: text of a few lines a cell, no pictures."""
    outputs = [output for cell in json.loads(NOTEBOOK.read_text())["cells"] for output in cell.get("outputs", [])]
    assert all(output["output_type"] == "stream" and len("".join(output["text"])) < 300 for output in outputs)
