"""What people do wrong most is told in one line that says what to do."""

import errno
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from service.cli import app
from service.client import ApiError
from service.commands.failures import failures_told
from service.core.db import Database
from service.core.settings import Settings
from service.core.storage import LocalStorage
from tests.small_models import publish

NOBODY = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def _wide_console(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.commands.output.console", Console(width=1000))
    monkeypatch.setenv("COLUMNS", "300")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(buffer, "png")
    path = tmp_path / "photo.png"
    path.write_bytes(buffer.getvalue())
    return path


def simclr(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def told(ended: Result) -> str:
    """The line of a command that failed without a traceback."""
    assert ended.exit_code in {1, 2}
    assert ended.exception is None or isinstance(ended.exception, SystemExit)
    return ended.output


def test_no_service(photo: Path) -> None:
    """The address, and how to start one or to name another."""
    shown = told(simclr("embed", photo, "--url", NOBODY))
    assert shown.startswith(f"no service answers at {NOBODY}")
    assert "start one with `simclr up`, or name it with --url" in shown


@pytest.mark.parametrize("command", [["train"], ["embed"], ["images", "add"]])
def test_a_folder_that_is_not_there(command: list[str]) -> None:
    """By its name."""
    assert "'nowhere' does not exist" in told(simclr(*command, "nowhere", "--url", NOBODY))


@pytest.mark.parametrize("command", [["train"], ["embed"], ["images", "add"]])
def test_a_folder_without_images(command: list[str], tmp_path: Path) -> None:
    """Which endings are read, and what is there instead."""
    for name in ("a.heic", "b.HEIC", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    shown = told(simclr(*command, tmp_path, "--url", NOBODY))
    assert "no image with a name ending in .jpg, .jpeg, .png, .webp" in shown
    assert "its 3 files are 2 of .heic, 1 of .txt; convert them" in shown


def test_no_model_in_production(api: httpx.Client, photo: Path) -> None:
    """How to get one."""
    shown = told(simclr("embed", photo, "--url", api.base_url))
    assert "no model is in production" in shown
    assert "`simclr models promote ID`" in shown
    assert "`simclr train DIR`" in shown


def test_a_file_that_is_no_image(
    api: httpx.Client, database: Database, api_settings: Settings, photo: Path, tmp_path: Path
) -> None:
    """By its name, among others that are; which formats are read."""
    publish(database, LocalStorage(api_settings.storage_dir))
    (tmp_path / "text.jpg").write_bytes(b"not a photograph")
    shown = told(simclr("embed", photo, tmp_path / "text.jpg", "--url", api.base_url))
    assert shown == "text.jpg: not a JPEG, PNG or WebP file\n"
    embedded = simclr("embed", photo, "--out", tmp_path / "vectors.npy", "--url", api.base_url)
    assert embedded.output == f"wrote {tmp_path}/vectors.npy: 1 x 192 float32\n"
    [line] = simclr("embed", photo, "--url", api.base_url).output.splitlines()
    assert json.loads(line)["file"] == "photo.png"
    np.testing.assert_allclose(np.load(tmp_path / "vectors.npy"), [json.loads(line)["vector"]])


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["jobs", "show", "ds_01"], "simclr datasets show ds_01"),
        (["datasets", "show", "job_01"], "simclr jobs show job_01"),
        (["models", "promote", "job_01"], "simclr jobs show job_01"),
        (["jobs", "start", "knn_probe", "--model", "ds_01"], "simclr datasets show ds_01"),
    ],
)
def test_an_id_of_another_kind(arguments: list[str], meant: str) -> None:
    """Which command it is for; nothing is sent."""
    assert f"`{meant}`" in told(simclr(*arguments, "--url", NOBODY))


def test_a_full_disk_here(capsys: pytest.CaptureFixture[str]) -> None:
    """The file, and what helps."""
    assert _told_of(OSError(errno.ENOSPC, "No space left on device", "images.tar"), capsys) == (
        "images.tar: No space left on device: free some space, or choose a folder on another disk\n"
    )


def test_a_full_disk_there(capsys: pytest.CaptureFixture[str]) -> None:
    """That it is the service's."""
    assert "the service's disk is full" in _told_of(ApiError(507, "storage_full", "no space"), capsys)


def _told_of(error: Exception, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(BaseException) as ended, failures_told(NOBODY):  # noqa: PT011  # typer's own Exit
        raise error
    assert getattr(ended.value, "exit_code", None) == 1
    return capsys.readouterr().out


def test_a_python_that_is_too_old() -> None:
    """One line before anything is imported that it couldn't read."""
    code = "import sys; sys.version_info = (3, 10, 2); sys.version = '3.10.2 (main)'; import service"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "simclr needs Python 3.11 or newer, not 3.10.2: make a new environment with one\n"


def test_torch_is_missing(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a stack is started that couldn't train."""
    monkeypatch.setattr("importlib.util.find_spec", _without("torch"))
    shown = told(simclr("train", photo.parent, "--url", NOBODY))
    assert "PyTorch is not installed, and training needs it: pip install 'simclr-service[train,embedded]'" in shown


def _without(missing: str) -> Callable[[str], Any]:
    return lambda name: None if name == missing else object()


def test_what_is_wrong_is_said_once() -> None:
    """The detail of a problem often names its field, or is the message."""
    assert str(ApiError(422, "x", "the file is empty", {"0": "the file is empty"})) == "the file is empty (422 x)"
    assert "a: not valid" in str(ApiError(422, "x", "2 fields are not valid", {"a": "not valid", "b": "required"}))
    assert str(ApiError(422, "x", "layer: one of h, z", {"layer": "one of h, z"})) == "layer: one of h, z (422 x)"
    assert (
        str(ApiError(422, "x", "a field is not valid", {"k": "too small"}))
        == "a field is not valid: k: too small (422 x)"
    )


def test_an_id_that_was_left_out_is_asked_for_by_its_option(api: httpx.Client) -> None:
    """Not by the field that it becomes."""
    assert told(simclr("jobs", "start", "pretrain", "--url", api.base_url)).startswith("--dataset: ")
    assert told(simclr("jobs", "start", "index", "--url", api.base_url)).startswith("--model: ")


def test_a_list_has_at_least_a_row() -> None:
    """The option says so."""
    assert "--limit" in told(simclr("jobs", "list", "--limit", "-1", "--url", NOBODY))


def test_an_export_is_of_a_form_that_is_known(tmp_path: Path) -> None:
    """By the ending of its name."""
    path = tmp_path / "pets.csv"
    assert told(simclr("images", "export", path, "--url", NOBODY)).startswith(f"{path}: it can be written as .parquet")
