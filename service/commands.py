"""The command line as a client of a running service: data sets, jobs, models, images, search and classes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from service.client import JSON, ApiError, Client, JobFailed, ReportForm
from service.core.settings import ClientSettings
from service.local_files import batches, read_images
from service.saving import write_whole

console = Console()

Url = Annotated[str, typer.Option("--url", envvar="SIMCLR_URL", help="Address of the service.")]
Limit = Annotated[int, typer.Option(help="Rows at most.")]
LOCAL = "http://127.0.0.1:8000"
KINDS = "pretrain, finetune, linear_probe, knn_probe, layer_sweep, transform_probe, export, ablation, index or map"


@dataclass(frozen=True)
class Column:
    """A column of a list: its title and where its value is."""

    title: str
    key: str


@contextmanager
def connected(url: str) -> Iterator[Client]:
    """A client whose failures end the command with one clear line."""
    try:
        with Client(url, api_key=ClientSettings().api_key) as client:
            yield client
    except (ApiError, JobFailed, ValueError) as error:
        console.print(f"[red]{error}[/red]")
        if isinstance(error, ApiError) and error.code == "unauthenticated":
            console.print("[red]set SIMCLR_API_KEY to a key of this service[/red]")
        raise typer.Exit(1) from error
    except (httpx.TransportError, httpx.InvalidURL) as error:
        console.print(
            f"[red]no service answers at {url} ({error}): start one with `simclr up`, or name it with --url[/red]"
        )
        raise typer.Exit(1) from error


def show(thing: Any) -> None:
    """Print JSON, coloured on a terminal."""
    console.print_json(json.dumps(thing))


def show_list(items: Iterator[JSON], columns: list[Column], limit: int) -> None:
    """Print the first `limit` items as a table."""
    table = Table(*(column.title for column in columns))
    for item in islice(items, limit):
        table.add_row(*("" if item.get(c.key) is None else str(item[c.key]) for c in columns))
    console.print(table)


datasets = typer.Typer(help="Images to train on.", no_args_is_help=True)


@datasets.command("add")
def add_dataset(
    archive: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="zip, tar, tar.gz or tar.zst")],
    name: Annotated[str | None, typer.Option(help="Default: the file's name.")] = None,
    on_invalid: Annotated[str, typer.Option(help="A file that is no image: `reject` all, or `skip` it.")] = "reject",
    url: Url = LOCAL,
) -> None:
    """Upload an archive; its folders are the classes, an optional top-level train/ and test/ the splits."""
    with connected(url) as client:
        show(client.create_dataset(archive, name=name, on_invalid=on_invalid))


@datasets.command("list")
def list_datasets(limit: Limit = 20, url: Url = LOCAL) -> None:
    """List the data sets, newest first."""
    columns = [Column("id", "id"), Column("name", "name"), Column("status", "status"), Column("images", "num_images")]
    with connected(url) as client:
        show_list(client.pages("/v1/datasets"), columns, limit)


@datasets.command("show")
def show_dataset(dataset_id: str, url: Url = LOCAL) -> None:
    """Print a data set as JSON."""
    with connected(url) as client:
        show(client.get(f"/v1/datasets/{dataset_id}"))


jobs = typer.Typer(help="Training, probes and indexing.", no_args_is_help=True)


@jobs.command("start")
def start_job(
    kind: Annotated[str, typer.Argument(help=KINDS)],
    dataset: Annotated[str | None, typer.Option(help="Id of the data set.")] = None,
    model: Annotated[str | None, typer.Option(help="Id of the model, but for pretrain and ablation.")] = None,
    recipe: Annotated[str, typer.Option(help='JSON, such as {"preset": "cpu-small", "seed": 1}.')] = "{}",
    resources: Annotated[str, typer.Option(help='JSON, such as {"nodes": {"min": 2}, "device": "cuda"}.')] = "{}",
    *,
    watch: Annotated[bool, typer.Option(help="Show progress until it ends.")] = True,
    url: Url = LOCAL,
) -> None:
    """Queue a job."""
    with connected(url) as client:
        fields = {"recipe": _json("--recipe", recipe), "resources": _json("--resources", resources)}
        job = client.submit(kind, dataset_id=dataset, model_id=model, **fields)
        console.print(f"queued {job['id']}")
        if watch:
            _watch(client, job["id"])


@jobs.command("list")
def list_jobs(limit: Limit = 20, url: Url = LOCAL) -> None:
    """List the jobs, newest first."""
    columns = [Column("id", "id"), Column("kind", "kind"), Column("status", "status"), Column("created", "created_at")]
    with connected(url) as client:
        show_list(client.pages("/v1/jobs"), columns, limit)


@jobs.command("show")
def show_job(job_id: str, url: Url = LOCAL) -> None:
    """Print a job as JSON."""
    with connected(url) as client:
        show(client.get(f"/v1/jobs/{job_id}"))


@jobs.command("watch")
def watch_job(job_id: str, url: Url = LOCAL) -> None:
    """Show a job's progress until it ends."""
    with connected(url) as client:
        _watch(client, job_id)


@jobs.command("cancel")
def cancel_job(job_id: str, url: Url = LOCAL) -> None:
    """Stop a job; a running process is killed."""
    with connected(url) as client:
        show(client.request("POST", f"/v1/jobs/{job_id}/cancel").json())


@jobs.command("log")
def show_log(job_id: str, url: Url = LOCAL) -> None:
    """Print what the job's process wrote."""
    with connected(url) as client:
        console.print(client.request("GET", f"/v1/jobs/{job_id}/log").text, markup=False)


@jobs.command("report")
def report_job(
    job_id: str,
    html: Annotated[Path | None, typer.Option(dir_okay=False, help="Save it as a page of one file.")] = None,
    png: Annotated[Path | None, typer.Option(dir_okay=False, help="Save its picture.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", dir_okay=False, help="Save all of it.")] = None,
    url: Url = LOCAL,
) -> None:
    """Print what came of a job, or save its report."""
    with connected(url) as client:
        files: dict[ReportForm, Path | None] = {"html": html, "png": png, "json": json_file}
        for form, path in files.items():
            if path is not None:
                write_whole(path, client.report(job_id, form))
                console.print(f"wrote {path}", markup=False, soft_wrap=True)
        if not any(files.values()):
            show(_summary(client.get(f"/v1/jobs/{job_id}/report")))


def _summary(report: JSON) -> JSON:
    """The report's single figures, without its curves and tables."""
    job, dataset, model = report["job"], report["dataset"], report["model"]
    result = {name: value for name, value in (job["result"] or {}).items() if not isinstance(value, dict | list)}
    return {
        **{name: job[name] for name in ("id", "kind", "status", "error")},
        "dataset": dataset and dataset["name"],
        "model": model and model["id"],
        "attempts": len(report["attempts"]),
        "result": result,
    }


def _json(option: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f'{option}: JSON such as {{"preset": "cpu-small"}}, not {text!r} ({error})') from error


def _watch(client: Client, job_id: str) -> None:
    with Progress(console=console) as progress:
        bar = progress.add_task(job_id, total=None)

        def update(job: JSON) -> None:
            state = job["progress"] or {}
            loss = f"  loss {state['loss']:.3f}" if state.get("loss") is not None else ""
            progress.update(
                bar, description=job["status"] + loss, completed=state.get("step"), total=state.get("steps")
            )

        job = client.wait_for_job(job_id, update)
    show(job["result"])


models = typer.Typer(help="Exported encoders.", no_args_is_help=True)


@models.command("list")
def list_models(limit: Limit = 20, url: Url = LOCAL) -> None:
    """List the models, newest first."""
    columns = [
        Column("id", "id"),
        Column("job", "job_id"),
        Column("parity", "parity_cosine"),
        Column("made", "created_at"),
    ]
    with connected(url) as client:
        show_list(client.pages("/v1/models"), columns, limit)


@models.command("show")
def show_model(model_id: str, url: Url = LOCAL) -> None:
    """Print a model as JSON."""
    with connected(url) as client:
        show(client.get(f"/v1/models/{model_id}"))


@models.command("promote")
def promote_model(model_id: str, alias: str = "production", url: Url = LOCAL) -> None:
    """Have an alias serve a model; `production` serves when no model is named."""
    with connected(url) as client:
        show(client.set_alias(alias, model_id))


images = typer.Typer(help="Images to embed and to search in.", no_args_is_help=True)


@images.command("add")
def add_images(
    source: Annotated[Path, typer.Argument(exists=True, help="Image, folder, zip or tar; folders are labels.")],
    collection: Annotated[str, typer.Option(help="Made on first use.")] = "default",
    url: Url = LOCAL,
) -> None:
    """Upload images into a collection."""
    with connected(url) as client:
        num_added, failed = 0, []
        for part in batches(read_images(source)):
            files = [(image.path.name, image.content) for image in part]
            items = client.add_images(files, collection=collection, labels=[image.label for image in part])
            failed += [item for item in items if item["status"] == "failed"]
            num_added += len(items)
            console.print(f"{num_added} images", end="\r")
        console.print(f"{num_added - len(failed)} images in {collection!r}, {len(failed)} refused")
        for item in failed:
            console.print(f"  {item['filename']}: {item['error']['detail']}", markup=False)


@images.command("list")
def list_images(
    collection: str = "default",
    filter: Annotated[str | None, typer.Option(help="A filter of label and metadata, as JSON.")] = None,  # noqa: A002  # the option's name
    limit: Limit = 20,
    url: Url = LOCAL,
) -> None:
    """List the images of a collection."""
    columns = [Column("id", "id"), Column("file", "filename"), Column("label", "label")]
    with connected(url) as client:
        show_list(client.pages("/v1/images", collection=collection, filter=filter), columns, limit)


@images.command("export")
def export_images(
    file: Annotated[Path, typer.Argument(help="Where to write; .arrow for an Arrow stream, else Parquet.")],
    collection: str = "default",
    layer: Annotated[str | None, typer.Option(help="With the vectors of this layer, such as h.")] = None,
    url: Url = LOCAL,
) -> None:
    """Write what a collection says of its images to a file."""
    query = {"format": "arrow" if file.suffix == ".arrow" else "parquet"} | ({"layer": layer} if layer else {})
    with connected(url) as client:
        client.export_collection(collection, file, **query)


@images.command("import")
def import_images(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    collection: str = "default",
    url: Url = LOCAL,
) -> None:
    """Take such a file into a collection; its images must be stored already."""
    with connected(url) as client:
        show(client.import_collection(collection, file))


def search(
    image: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    k: Annotated[int, typer.Option(help="Neighbours.")] = 10,
    collection: Annotated[str, typer.Option(help="Where to search.")] = "default",
    filter: Annotated[str | None, typer.Option(help="A filter of label and metadata, as JSON.")] = None,  # noqa: A002  # the option's name
    url: Url = LOCAL,
) -> None:
    """Find the images most similar to one of yours."""
    columns = [Column("score", "score"), Column("file", "filename"), Column("label", "label"), Column("id", "id")]
    with connected(url) as client:
        form = {"collection": collection, "k": k} | ({"filter": filter} if filter else {})
        found = client.search_by_image(image.name, image.read_bytes(), **form)
        rows = [{**hit, "score": f"{hit['score']:.4f}"} for hit in found]
        show_list(iter(rows), columns, k)


def classify(
    image: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    probe: Annotated[str, typer.Option(help="Id of the linear_probe or finetune job that made the classifier.")],
    top_k: Annotated[int, typer.Option(help="Classes.")] = 5,
    url: Url = LOCAL,
) -> None:
    """Say what an image shows."""
    with connected(url) as client:
        [item] = client.classify([(image.name, image.read_bytes())], probe=probe, top_k=top_k)
        rows = [{**likely, "probability": f"{likely['probability']:.4f}"} for likely in item["classes"]]
        show_list(iter(rows), [Column("probability", "probability"), Column("class", "name")], top_k)


def nodes(url: Url = LOCAL) -> None:
    """List the workers, with their free slots and the jobs that they run."""
    titles = ("name", "alive", "address", "free", "running")
    with connected(url) as client:
        rows = [
            {
                **node,
                "alive": "yes" if node["is_alive"] else "no",
                "free": ", ".join(f"{node['free_slots'][kind]}/{n} {kind}" for kind, n in node["slots"].items()),
                "running": ", ".join(part["job_id"] for part in node["running"]),
            }
            for node in client.get("/v1/system")["nodes"]
        ]
        show_list(iter(rows), [Column(title, title) for title in titles], len(rows))


def register(app: typer.Typer) -> None:
    """Add the client's commands to the `simclr` command."""
    for name, part in (("datasets", datasets), ("jobs", jobs), ("models", models), ("images", images)):
        app.add_typer(part, name=name)
    app.command()(search)
    app.command()(classify)
    app.command()(nodes)
