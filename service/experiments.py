"""`simclr experiments`: the paper's own questions, asked of your images over HTTP.

Upload -> pretrain -> layer sweep (Section 4.2) -> transform probe (Table 3) -> normalise x temperature (Table 5)
-> compositions of augmentations (Fig. 5). Ends with one HTML page, a table of claims and one JSON line.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.claims import (
    NORMALIZE,
    OPERATIONS,
    TEMPERATURE,
    Claim,
    composition_claims,
    layer_claims,
    normalization_claims,
    transform_claims,
)
from service.client import JSON, ApiError, Client, JobFailed, ReadyDataset, SucceededJob
from service.core.settings import ClientSettings
from service.demo import DataDirOption, DataOption, PortOption, archive_of, running_service
from service.saving import write_whole
from service.stages import StageFailed, Stages, job_progress, progress_on

COLOR = ["color_jitter", "grayscale"]  # colour distortion (App. A)
TRANSFORMATIONS = {"crop": ["crop"], "color": COLOR, "cutout": ["cutout"]}
TEMPERATURES = [0.1, 1.0, 10.0]
SUMMARY = "What the paper says, and what these experiments show"
ABOUT = (
    "Each claim is of a difference of two accuracies, beside the half-width of its 95% interval: it holds, does not"
    " hold, or nothing was decided. The networks are small and trained for minutes, where the paper's took hours on 128"
    " TPU cores: what does not hold here says how far such a short training is from theirs, not that they were wrong."
)

console = Console(width=None if sys.stdout.isatty() else 120)


def compositions() -> list[list[str]]:
    """The 3 x 3 of Fig. 5: each transformation alone, and each after each."""
    rows = TRANSFORMATIONS.items()
    return [[*one] if name == other_name else [*one, *other] for name, one in rows for other_name, other in rows]


def short(epochs: int) -> JSON:
    """The recipe that is varied: as the demo's, for fewer epochs."""
    return {"preset": "cpu-small", "schedule": {"epochs": epochs, "warmup_epochs": min(1, epochs)}}


class Experiments:
    """The jobs, one after the other, over one client."""

    def __init__(self, client: Client, stages: Stages, *, epochs: int, seeds: Sequence[int]) -> None:
        self.client = client
        self.stages = stages
        self.epochs = epochs
        self.seeds = list(seeds)
        self.reports: list[JSON] = []

    def run(self, archive: Path) -> list[Claim]:
        """All of them on the images of an archive; what became of each claim."""
        dataset = self._upload(archive)
        pretrained = self._job("pretrain", "pretrain SimCLR", "pretrain", dataset, recipe={"preset": "cpu-small"})
        model = {"model_id": pretrained["result"]["model_id"]}
        sweep = self._job("layer_sweep", "sweep the layers", "layer_sweep", dataset, **model)
        transforms = self._job("transform_probe", "probe transformations", "transform_probe", dataset, **model)
        normalization = self._ablation("normalization", dataset, {NORMALIZE: [True, False], TEMPERATURE: TEMPERATURES})
        composition = self._ablation("composition", dataset, {OPERATIONS: compositions()}, branches="one")
        return [
            *layer_claims(sweep["result"]),
            *transform_claims(transforms["result"]),
            *normalization_claims(normalization["result"]),
            *composition_claims(composition["result"]),
        ]

    def _upload(self, archive: Path) -> ReadyDataset:
        with self.stages.stage("dataset", "upload and validate the images") as update:
            dataset = self.client.create_dataset(archive, on_invalid="skip")
            return self.client.wait_for_dataset(dataset["id"], job_progress(update))

    def _ablation(
        self, name: str, dataset: ReadyDataset, grid: dict[str, list[Any]], **augmentation: Any
    ) -> SucceededJob:
        base = {**short(self.epochs), "augmentation": augmentation}
        recipe = {"base": base, "grid": grid, "seeds": self.seeds}
        return self._job(name, f"ablation: {name}", "ablation", dataset, recipe=recipe)

    def _job(self, name: str, text: str, kind: str, dataset: ReadyDataset, **fields: Any) -> SucceededJob:
        with self.stages.stage(name, text) as update:
            submitted = self.client.submit(kind, dataset_id=dataset["id"], **fields)
            job = self.client.wait_for_job(submitted["id"], job_progress(update))
            self.reports.append(self.client.get(f"/v1/jobs/{job['id']}/report"))
        return job


def _table(claims: Sequence[Claim]) -> Table:
    table = Table(title=SUMMARY, show_lines=True)
    for name in ("claim", "source", "the paper", "here", "verdict"):
        table.add_column(name)
    for claim in claims:
        table.add_row(*map(escape, claim.as_json().values()))
    return table


EpochsOption = Annotated[int, typer.Option(min=1, help="Of each run of the two ablations; more decide more.")]
SeedsOption = Annotated[int, typer.Option(min=1, max=16, help="Runs of each combination, with seeds 0, 1, ...")]
HtmlOption = Annotated[Path, typer.Option(help="Where the report goes.")]


def experiments(
    data: DataOption = None,
    data_dir: DataDirOption = Path("simclr-data"),
    port: PortOption = 8000,
    epochs: EpochsOption = 6,
    seeds: SeedsOption = 1,
    html: HtmlOption = Path("experiments.html"),
) -> None:
    """Ask the paper's questions of your images: layers, transformations, normalisation, compositions."""
    try:
        with tempfile.TemporaryDirectory() as temporary, progress_on(console) as progress:
            source = archive_of(data, data_dir, Path(temporary))
            with (
                running_service(data_dir, port) as address,
                Client(address, api_key=ClientSettings().api_key) as client,
            ):
                asked = Experiments(client, Stages(progress), epochs=epochs, seeds=range(seeds))
                claims = asked.run(source)
        write_whole(html, _page(claims, asked).encode())
        console.print(_table(claims))
        console.print(f"All of it, with plots: {html}")
        print(json.dumps(_summary(claims, asked)), flush=True)  # noqa: T201  # the machine-readable result, unwrapped
    except (StageFailed, JobFailed, ApiError, httpx.HTTPError, OSError, ValueError) as error:
        typer.echo(f"simclr experiments: {error}", err=True)
        raise typer.Exit(1) from error


def _page(claims: Sequence[Claim], asked: Experiments) -> str:
    from service.report.html import claims_section, page, section  # noqa: PLC0415  # matplotlib, a second

    fragments = [claims_section([claim.as_json() for claim in claims], ABOUT), *map(section, asked.reports)]
    return page(SUMMARY, fragments)


def _summary(claims: Sequence[Claim], asked: Experiments) -> JSON:
    verdicts = [claim.verdict for claim in claims]
    return {
        "claims": [claim.as_json() for claim in claims],
        "holds": verdicts.count("holds"),
        "does_not_hold": verdicts.count("does not hold"),
        "undecided": verdicts.count("undecided"),
        "num_jobs": len(asked.reports),
        "seconds": asked.stages.seconds,
    }
