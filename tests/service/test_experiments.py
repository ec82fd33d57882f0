"""The experiments ask for jobs that the API takes, and end with one page."""

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from rich.console import Console

from models.config import pretrain_recipe
from service.claims import Claim
from service.client import JSON
from service.experiments import ABOUT, SUMMARY, Experiments, _table, compositions
from service.report.html import claims_section, page
from service.report.matrix import compositions as places
from service.schemas.job_requests import JobRequest
from service.stages import Stages, progress_on
from trainer.augment import OPERATIONS

ID = "ds_01m85aj6awef0jmttr5d4rkmm2"
CLAIM = Claim("h is <b>better</b>", "Fig. 8", "10 points", "h 0.6, z 0.5", "holds")


class Recorder:
    """A client whose jobs succeed at once, with no result to speak of."""

    def __init__(self) -> None:
        self.requests: list[JSON] = []

    def create_dataset(self, archive: Path, *, on_invalid: str) -> JSON:
        return {"id": ID}

    def wait_for_dataset(self, dataset_id: str, on_progress: Callable[[JSON], None]) -> JSON:
        return {"id": dataset_id}

    def submit(self, kind: str, **fields: Any) -> JSON:
        self.requests.append({"kind": kind, **fields})
        return {"id": f"job_{kind}"}

    def wait_for_job(self, job_id: str, on_progress: Callable[[JSON], None]) -> JSON:
        result = {"model_id": ID.replace("ds", "mdl"), "layers": [{"layer": "h", **SCORE}, {"layer": "z", **SCORE}]}
        return {"id": job_id, "result": {**result, "rows": [], "cells": []}}

    def get(self, path: str) -> JSON:
        return {"path": path}


SCORE = {"linear_top1": 0.5, "confidence_interval": [0.4, 0.6]}


def test_the_api_takes_every_job(tmp_path: Path) -> None:
    """Each request is valid as a whole; 6 and 9 combinations with two seeds each are 30 trainings."""
    client = Recorder()
    console = Console(quiet=True)
    asked = Experiments(client, Stages(progress_on(console)), epochs=3, seeds=range(2))  # type: ignore[arg-type]  # a double
    asked.run(tmp_path)
    requests: list[Any] = [TypeAdapter(JobRequest).validate_python(request) for request in client.requests]
    assert [request.kind for request in requests[:3]] == ["pretrain", "layer_sweep", "transform_probe"]
    ablations = [request.recipe for request in requests[3:]]
    assert [len(recipe.cells()) * len(recipe.seeds) for recipe in ablations] == [12, 18]
    assert {recipe.recipe(cell, 0).schedule.epochs for recipe in ablations for cell in recipe.cells()} == {3}
    assert ablations[1].base.augmentation.branches == "one"
    assert ablations[0].base.encoder == pretrain_recipe({"preset": "cpu-small"}).encoder
    assert len(asked.reports) == 5


def test_compositions_are_every_pair_of_three_and_each_alone() -> None:
    """Nine, of operations that there are; the report can draw them as a matrix."""
    names = ("crop", "color", "cutout")
    assert places(compositions()) == [(first, second) for first in names for second in names]
    assert {name for value in compositions() for name in value} <= OPERATIONS.keys()


def test_claims_stand_on_the_page_and_in_the_table() -> None:
    """As text, with their verdict."""
    html = page(SUMMARY, [claims_section([CLAIM.as_json()], ABOUT)])
    assert "h is &lt;b&gt;better&lt;/b&gt;" in html
    assert "<td>holds</td>" in html
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(_table([dataclasses.replace(CLAIM, measured="h [0.5, 0.7]")]))
    assert "h [0.5, 0.7]" in console.export_text()
