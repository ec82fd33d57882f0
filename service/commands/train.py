"""`simclr train`."""

import importlib.util
import os
import re
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import httpx
import typer

from service.client import Client
from service.client.connection import http_options
from service.commands import output
from service.commands.connection import LOCAL, Url
from service.commands.failures import failures_told
from service.commands.output import Column, show_list
from service.core.settings import ClientSettings
from service.demo import archive_of, running_service
from service.instance import check_port
from service.schemas.fields import NAME_PATTERN
from service.stages import StageFailed, Stages, progress_on
from service.train import NotStored, Plan, Trained, collection_name, plan
from service.train import train as run
from service.walk import Walk

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")

Folder = Annotated[Path, typer.Argument(metavar="DIR", exists=True, help="Folder or archive of images.")]
DataDir = Annotated[Path, typer.Option(help="Where the service keeps its data, if it has to be started.")]
Preset = Annotated[
    str | None, typer.Option(help="Of `GET /v1/recipes`.", show_default="what suits the images and the machine")
]
Minutes = Annotated[float, typer.Option(min=0.001, help="About how long to pretrain.")]
Collection = Annotated[str | None, typer.Option(help="For the images.", show_default="the folder's name")]


def train(
    source: Folder,
    data_dir: DataDir = Path("simclr-data"),
    preset: Preset = None,
    minutes: Minutes = 10,
    collection: Collection = None,
    url: Url = LOCAL,
) -> None:
    """Learn from a folder of images, then search it: all the way, in one command.

    Images need no labels and no subfolders. A service that answers at --url is used, else one is started for as long
    as this takes.

    Example: simclr train ~/Pictures --minutes 30
    """
    with failures_told(url), tempfile.TemporaryDirectory() as temporary:
        if collection is not None and not re.fullmatch(NAME_PATTERN, collection):
            raise StageFailed(
                f"--collection: up to 64 letters, digits, `.`, `_` and `-`, first a letter or digit; not {collection!r}"
            )
        archive = archive_of(source, data_dir, Path(temporary))
        with (
            _service(url, data_dir) as (address, is_ours),
            Client(address, api_key=ClientSettings().api_key) as client,
            progress_on(output.console) as progress,
        ):
            walk = Walk(client, Stages(progress), collection or collection_name(source))
            dataset = walk.upload_dataset(archive)
            planned = plan(walk, dataset, preset=preset, minutes=minutes, num_cores=os.cpu_count() or 1)
            output.console.print(_announcement(planned, dataset["num_images"]))
            kept = data_dir if is_ours else None
            try:
                trained = run(walk, archive, dataset, planned)
            except NotStored as error:
                raise StageFailed(f"{error}\n{_without_training(walk.collection, source, address, kept)}") from error
        _show(walk, trained, address, kept)


@contextmanager
def _service(url: str, data_dir: Path) -> Iterator[tuple[str, bool]]:
    """The address of a service, and whether it was started here."""
    if _answers(url):
        yield url, False
        return
    address = httpx.URL(url)
    if address.host not in LOCAL_HOSTS:
        raise StageFailed(f"no service answers at {url}: start it there, or leave --url out to start one here")
    if importlib.util.find_spec("torch") is None:
        raise StageFailed(
            "PyTorch is not installed, and training needs it: pip install 'simclr-service[train,embedded]';"
            " `simclr doctor` checks the rest"
        )
    port = address.port or 80
    check_port(address.host, port, option=f"--url, such as --url http://{address.host}:{port + 1}")
    output.console.print(f"No service answers at {url}: starting one on {data_dir} ...", soft_wrap=True)
    with running_service(data_dir, port) as started:
        yield started, True


def _answers(url: str) -> bool:
    """Whether a service of ours is there."""
    try:
        with httpx.Client(**http_options(url, None, 5)) as http:
            response = http.get("/healthz")
    except httpx.TransportError:
        return False
    if response.is_success and response.headers.get("content-type", "").startswith("application/json"):
        return True
    raise StageFailed(f"another program answers at {url}: name the service, or a free port, with --url")


def _announcement(planned: Plan, num_images: int) -> str:
    recipe = planned.recipe
    epochs = recipe.get("schedule", {}).get("epochs", "its")
    about = "" if planned.minutes is None else f", about {max(1, round(planned.minutes))} min"
    return f"{num_images:,} images; pretraining with {recipe['preset']}, {epochs} epochs{about}."


def _show(walk: Walk, trained: Trained, address: str, data_dir: Path | None) -> None:
    for item in walk.refused:
        reason = (item["error"] or {}).get("detail")
        output.console.print(f"Not stored: {item['filename']}: {reason}", markup=False)
    rows = [{**hit, "score": f"{hit['score']:.4f}"} for hit in trained.hits]
    found = f"{trained.num_stored:,} images in the collection {walk.collection}. Like {trained.query}:"
    output.console.print(found, markup=False)
    show_list(iter(rows), [Column("score", "score"), Column("file", "filename"), Column("label", "label")], len(rows))
    when = "" if data_dir is None else ", once the first of these commands runs"
    lines = "\n".join(f"  {command}" for command in _commands(walk.collection, trained.job_id, address, data_dir))
    output.console.print(f"The page: {address}/{when}\nNext:\n{lines}", markup=False, soft_wrap=True, highlight=False)


def _without_training(collection: str, source: Path, address: str, data_dir: Path | None) -> str:
    add = f"simclr images add {shlex.quote(str(source))} --collection {collection}{_elsewhere(address)}"
    commands = "\n".join(f"  {command}" for command in (*_start(address, data_dir), add))
    return f"The model is trained and in production. Without another training:\n{commands}"


def _elsewhere(address: str) -> str:
    url, local = httpx.URL(address), httpx.URL(LOCAL)
    return "" if (url.scheme, url.netloc) == (local.scheme, local.netloc) else f" --url {address}"


def _start(address: str, data_dir: Path | None) -> list[str]:
    """The command that starts the service again, if it was started here."""
    port = httpx.URL(address).port or 80
    elsewhere = "" if port == httpx.URL(LOCAL).port else f" --port {port}"
    return [] if data_dir is None else [f"simclr up --data-dir {shlex.quote(str(data_dir))}{elsewhere}"]


def _commands(collection: str, job_id: str, address: str, data_dir: Path | None) -> list[str]:
    """What to do next, as it can be typed; the first starts the service if it was started here."""
    elsewhere = _elsewhere(address)
    return [
        *_start(address, data_dir),
        f"simclr search PHOTO.jpg --collection {collection}{elsewhere}",
        f"simclr embed PHOTO.jpg --out vectors.npy{elsewhere}",
        f"simclr images add MORE --collection {collection}{elsewhere}",
        f"simclr jobs report {job_id} --html report.html{elsewhere}",
    ]
