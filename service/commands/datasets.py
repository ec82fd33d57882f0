"""`simclr datasets`."""

from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

import typer

from service.client import Client, JobFailed, ReadyDataset
from service.commands import output
from service.commands.connection import LOCAL, Url, connected
from service.commands.ids import DatasetId
from service.commands.output import ID_WIDTH, Column, Limit, show, show_list
from service.stages import Stages, job_progress, progress_on

SHOWN_REJECTIONS = 20

app = typer.Typer(help="Images to train on.", no_args_is_help=True)


@app.command("add")
def add_dataset(
    archive: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="zip, tar, tar.gz or tar.zst")],
    name: Annotated[str | None, typer.Option(help="To tell it apart.", show_default="the file's name")] = None,
    on_invalid: Annotated[
        Literal["reject", "skip"], typer.Option(help="A file that is no image: `reject` all, or `skip` it.")
    ] = "reject",
    *,
    watch: Annotated[bool, typer.Option(help="Wait until its images were looked at.")] = True,
    url: Url = LOCAL,
) -> None:
    """Upload an archive; its folders are the classes, an optional top-level train/ and test/ the splits.

    Example: simclr datasets add photos.zip --on-invalid skip
    """
    with connected(url) as client:
        dataset = client.create_dataset(archive, name=name, on_invalid=on_invalid)
        show(_watch(client, dataset["id"]) if watch else dataset)


def _watch(client: Client, dataset_id: str) -> ReadyDataset:
    output.console.print(f"uploaded {dataset_id}")
    try:
        with progress_on(output.console) as bars, Stages(bars).stage("validate", "validate the images") as update:
            dataset = client.wait_for_dataset(dataset_id, job_progress(update))
    except JobFailed:
        _show_rejected(client, dataset_id)
        raise
    _show_rejected(client, dataset_id)
    return dataset


def _show_rejected(client: Client, dataset_id: str) -> None:
    for rejected in islice(client.pages(f"/v1/datasets/{dataset_id}/rejected"), SHOWN_REJECTIONS):
        output.console.print(f"Rejected: {rejected['name']}: {rejected['detail']}", markup=False, soft_wrap=True)


@app.command("list")
def list_datasets(limit: Limit = 20, url: Url = LOCAL) -> None:
    """List the data sets, newest first."""
    columns = [
        Column("id", "id", ID_WIDTH),
        Column("name", "name"),
        Column("status", "status"),
        Column("images", "num_images"),
    ]
    with connected(url) as client:
        show_list(client.pages("/v1/datasets"), columns, limit)


@app.command("show")
def show_dataset(dataset_id: DatasetId, url: Url = LOCAL) -> None:
    """Print a data set as JSON."""
    with connected(url) as client:
        show(client.get(f"/v1/datasets/{dataset_id}"))
