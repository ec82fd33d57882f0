"""`simclr jobs`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from service.client import JSON, ApiError, Client, Job, ReportForm
from service.commands import output
from service.commands.connection import LOCAL, Url, connected
from service.commands.ids import JobId, id_of
from service.commands.output import ID_WIDTH, Column, Limit, show, show_list
from service.saving import write_whole

KINDS = "pretrain, finetune, linear_probe, knn_probe, layer_sweep, transform_probe, export, ablation, index or map"

NO_NODES = "no_nodes"  # what a job is warned of that waits for nodes which aren't there

app = typer.Typer(help="Training, probes and indexing.", no_args_is_help=True)


@app.command("start")
def start_job(
    kind: Annotated[str, typer.Argument(help=KINDS)],
    dataset: Annotated[str | None, typer.Option(help="Id of the data set.", callback=id_of("ds"))] = None,
    model: Annotated[
        str | None, typer.Option(help="Id of the model, but for pretrain and ablation.", callback=id_of("mdl"))
    ] = None,
    recipe: Annotated[str, typer.Option(help='JSON, such as {"preset": "cpu-small", "seed": 1}.')] = "{}",
    resources: Annotated[str, typer.Option(help='JSON, such as {"nodes": {"min": 2}, "device": "cuda"}.')] = "{}",
    *,
    watch: Annotated[bool, typer.Option(help="Show progress until it ends.")] = True,
    url: Url = LOCAL,
) -> None:
    """Queue a job, and show how it goes.

    Example: simclr jobs start pretrain --dataset ds_01jcz0000000000000000000vv --recipe '{"preset": "cpu-small"}'
    """
    with connected(url) as client:
        fields = {"recipe": _json("--recipe", recipe), "resources": _json("--resources", resources)}
        named = {"dataset_id": dataset, "model_id": model}
        try:
            job = client.submit(kind, **{name: id_ for name, id_ in named.items() if id_}, **fields)
        except ApiError as error:
            raise _with_options(error) from error
        output.console.print(f"queued {job['id']}")
        if watch:
            _watch(client, job["id"])


@app.command("list")
def list_jobs(limit: Limit = 20, url: Url = LOCAL) -> None:
    """List the jobs, newest first."""
    columns = [
        Column("id", "id", ID_WIDTH),
        Column("kind", "kind"),
        Column("status", "status"),
        Column("created", "created_at"),
    ]
    with connected(url) as client:
        show_list(client.pages("/v1/jobs"), columns, limit)


@app.command("show")
def show_job(job_id: JobId, url: Url = LOCAL) -> None:
    """Print a job as JSON."""
    with connected(url) as client:
        show(client.get(f"/v1/jobs/{job_id}"))


@app.command("watch")
def watch_job(job_id: JobId, url: Url = LOCAL) -> None:
    """Show a job's progress until it ends."""
    with connected(url) as client:
        _watch(client, job_id)


@app.command("cancel")
def cancel_job(job_id: JobId, url: Url = LOCAL) -> None:
    """Stop a job; a running process is killed."""
    with connected(url) as client:
        show(client.request("POST", f"/v1/jobs/{job_id}/cancel").json())


@app.command("log")
def show_log(job_id: JobId, url: Url = LOCAL) -> None:
    """Print what the job's process wrote."""
    with connected(url) as client:
        output.console.print(client.request("GET", f"/v1/jobs/{job_id}/log").text, markup=False)


@app.command("report")
def report_job(
    job_id: JobId,
    html: Annotated[Path | None, typer.Option(dir_okay=False, help="Save it as a page of one file.")] = None,
    png: Annotated[Path | None, typer.Option(dir_okay=False, help="Save its picture.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", dir_okay=False, help="Save all of it.")] = None,
    url: Url = LOCAL,
) -> None:
    """Print what came of a job, or save its report.

    Example: simclr jobs report job_01jcz0000000000000000000vv --html report.html
    """
    with connected(url) as client:
        files: dict[ReportForm, Path | None] = {"html": html, "png": png, "json": json_file}
        for form, path in files.items():
            if path is not None:
                write_whole(path, client.report(job_id, form))
                output.console.print(f"wrote {path}", markup=False, soft_wrap=True)
        if not any(files.values()):
            show(_summary(client.get(f"/v1/jobs/{job_id}/report")))


def _summary(report: JSON) -> JSON:
    """The report's single figures, without its curves and tables."""
    job, dataset, model = report["job"], report["dataset"], report["model"]
    return {
        **{name: job[name] for name in ("id", "kind", "status", "error")},
        "dataset": dataset and dataset["name"],
        "model": model and model["id"],
        "attempts": len(report["attempts"]),
        "result": _scalars(job["result"] or {}),
    }


def _scalars(result: JSON) -> JSON:
    return {name: value for name, value in result.items() if not isinstance(value, dict | list)}


def _with_options(error: ApiError) -> Exception:
    """The error by the options, where it is of ids that were left out, or given needlessly."""
    options = {"dataset_id": "--dataset", "model_id": "--model"}
    if not options.keys() & error.errors.keys():
        return error
    return ValueError("; ".join(f"{options.get(field, field)}: {message}" for field, message in error.errors.items()))


def _json(option: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f'{option}: JSON such as {{"preset": "cpu-small"}}, not {text!r} ({error})') from error


def _tell_why(client: Client, job_id: str, after: int) -> int:
    """Print that nodes are missing for a job, if an event after that one says so; the last event's id."""
    while events := client.get(f"/v1/jobs/{job_id}/events", after=after, limit=1000)["items"]:
        after = events[-1]["id"]
        for event in events:
            if event["data"].get("code") == NO_NODES:
                output.console.print(event["data"]["message"], style="yellow", markup=False)
    return after


def _watch(client: Client, job_id: str) -> None:
    last_event = 0
    with Progress(console=output.console) as progress:
        bar = progress.add_task(job_id, total=None)

        def update(job: Job) -> None:
            nonlocal last_event
            if job["status"] == "queued":
                last_event = _tell_why(client, job_id, last_event)
            state = job["progress"] or {}
            loss = f"  loss {state['loss']:.3f}" if state.get("loss") is not None else ""
            progress.update(
                bar, description=job["status"] + loss, completed=state.get("step"), total=state.get("steps")
            )

        job = client.wait_for_job(job_id, update)
    show(_scalars(job["result"]))
    output.console.print(
        f"all of it: simclr jobs show {job_id}; as a page: simclr jobs report {job_id} --html report.html",
        soft_wrap=True,
        highlight=False,
    )
