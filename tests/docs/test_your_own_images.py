"""From a folder of one's own images to a search: the one command, and the notebook."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from service.cli import app
from service.client import Client
from tests.docs.conftest import NOTEBOOK, RunNotebook, Trained
from tests.docs.pages import ROOT, snippets
from tests.stack import Stack

# Of a folder, its photographs and the run: these differ from one to the next.
VARIES = re.compile(r"(?<=Like )\S+(?=:)|(?<=job_)\w+|http://.*|[\d,.]+")


def simclr(stack: Stack, *arguments: object) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments), "--url", stack.base_url])
    assert result.exit_code == 0, result.output
    return result.output


def test_one_command_goes_from_a_folder_to_a_search(
    clean_stack: Stack, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unlabelled photographs: trained on, served, stored, searched; then the commands that it names work."""
    monkeypatch.setattr("service.commands.output.console", Console(width=200))
    stack, photos, shown = clean_stack, trained.folder, trained.printed
    assert re.search(r"12 images; pretraining with cpu-small, \d+ epochs, about 1 min", shown)
    assert "Not stored: broken.jpg" in shown
    assert "12 images in the collection photos. Like 00.jpg:" in shown
    rows = re.findall(r"(0\.\d{4}|1\.0000) +│ (\d\d)\.jpg", shown)
    assert len(rows) == 5
    assert "00" not in {name for _, name in rows}
    assert f"The page: {stack.base_url}/\n" in shown
    assert "simclr up" not in shown  # it runs already
    with Client(stack.base_url) as client:
        assert client.get_collection("photos")["num_images"] == 12
        [job_id] = re.findall(r"simclr jobs report (job_\w+)", shown)
        h = client.embed(sorted(photos.glob("[0-9]*.jpg")), model=client.get_job(job_id)["result"]["model_id"])
    h /= np.linalg.norm(h, axis=1, keepdims=True)
    expected = np.sort(h[1:] @ h[0])[::-1][:5]
    np.testing.assert_allclose([float(score) for score, _ in rows], expected, atol=2e-4)
    [search] = re.findall(r"simclr (search) PHOTO.jpg --collection photos", shown)
    assert "03.jpg" in simclr(stack, search, photos / "03.jpg", "--collection", "photos", "--k", 1)
    assert "wrote" in simclr(stack, "embed", photos / "03.jpg", "--out", tmp_path / "vectors.npy")
    assert np.load(tmp_path / "vectors.npy").shape == (1, h.shape[1])


def test_the_tutorial_s_transcript_is_what_is_printed(trained: Trained) -> None:
    """Each line of the command, but for its figures and its table, stands in the tutorial."""
    [transcript] = [
        one.text
        for one in snippets(ROOT / "docs/tutorial.md")
        if one.text.startswith("$ .venv/bin/simclr train photos/")
    ]
    told = {VARIES.sub("…", line).rstrip() for line in transcript.splitlines()}
    printed = [line for line in trained.printed.splitlines() if not re.match(r"[┏┡├└│┃]|Not stored", line)]
    as_usual = [re.sub(r" --url \S+", "", line) for line in printed]  # the tests' service has another port
    assert [line for line in as_usual if VARIES.sub("…", line).rstrip() not in told] == []


def test_the_notebook_runs(notebook: RunNotebook) -> None:
    """Every cell, in order, against a running service; what it finds is what its text says."""
    assert "24 pictures\n24 images of across, along, diagonal\n" in notebook.printed
    [(first, last)] = re.findall(r"loss (\d\.\d\d) -> (\d\.\d\d)\n\(24, 128\) float32\n", notebook.printed)
    assert float(last) < float(first)
    assert "{'created'}\n" in notebook.printed


def test_the_notebook_s_outputs_are_small() -> None:
    """It is read, and compared in reviews: text of a few lines a cell, no pictures."""
    outputs = [output for cell in json.loads(NOTEBOOK.read_text())["cells"] for output in cell.get("outputs", [])]
    assert all(output["output_type"] == "stream" and len("".join(output["text"])) < 300 for output in outputs)
