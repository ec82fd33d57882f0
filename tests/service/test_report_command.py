"""`simclr jobs report`."""

import json
from pathlib import Path

import httpx
import pytest
from click.testing import Result
from typer.testing import CliRunner

from service.cli import app
from service.core import jobs
from service.core.db import Database
from tests.service.conftest import add_dataset, add_model, begin
from tests.service.report.samples import linear_probe


@pytest.fixture
def probe_id(database: Database) -> str:
    with database.transaction() as session:
        dataset, model = add_dataset(session), add_model(session)
        job = jobs.submit(session, kind="knn_probe", recipe={}, dataset_id=dataset.id, model_id=model.id)
        result = linear_probe()["job"]["result"]
        return jobs.succeed(session, begin(session, job.id), result).id


def report(api: httpx.Client, job_id: str, *options: object) -> Result:
    """Run the command."""
    return CliRunner().invoke(app, ["jobs", "report", job_id, *map(str, options), "--url", str(api.base_url)])


def test_it_saves_each_form(api: httpx.Client, probe_id: str, tmp_path: Path) -> None:
    """What the API gives, in the files that were named, several at once."""
    page, picture, data = tmp_path / "a.html", tmp_path / "a.png", tmp_path / "a.json"
    ended = report(api, probe_id, "--html", page, "--png", picture, "--json", data)
    assert ended.exit_code == 0
    for path, form in ((page, "html"), (picture, "png"), (data, "json")):
        assert path.read_bytes() == api.get(f"/v1/jobs/{probe_id}/report", params={"format": form}).content
        assert f"wrote {path}\n" in ended.output


def test_without_a_file_it_prints_the_figures(api: httpx.Client, probe_id: str) -> None:
    """As JSON, without lists and tables."""
    printed = json.loads(report(api, probe_id).output)
    assert (printed["kind"], printed["status"], printed["dataset"]) == ("knn_probe", "succeeded", "pets")
    assert printed["attempts"] == 1
    assert printed["result"]["top1"] == 0.7
    assert "confusion" not in printed["result"]


def test_a_place_that_cannot_be_written_ends_it_in_one_line(api: httpx.Client, probe_id: str, tmp_path: Path) -> None:
    """Status 1 and the file's name; no traceback."""
    ended = report(api, probe_id, "--png", tmp_path / "none" / "a.png")
    assert ended.exit_code == 1
    assert "can't be written" in " ".join(ended.output.split())
