"""`simclr demo`: the whole product once, over HTTP, on real images.

Upload a data set -> pretrain SimCLR -> probe -> export -> promote -> index -> search, for three encoders: the
pretrained one, the same at its random initialisation, and raw pixels. Ends with a table and one JSON line.
"""

import hashlib
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.table import Table

from models.probing import probe_obstacle
from service.client import JSON, ApiError, Client, JobFailed, ReadyDataset, SucceededJob
from service.core.child import child_command
from service.core.settings import ClientSettings
from service.demo_stages import ENCODERS, Demo, K
from service.local_files import LocalImage, pack_folder, read_images
from service.stages import StageFailed, Stages, progress_on

MAX_GALLERY = 1000
CEILING = 0.99  # where random weights do as well as this, the data can't tell encoders apart

# On a terminal its width; elsewhere (a log) wide enough for the progress line.
console = Console(width=None if sys.stdout.isatty() else 120)


def _gallery(source: Path) -> list[PurePosixPath]:
    """Images to search in: those of the test split, or else an even pick; at most MAX_GALLERY, of distinct content."""
    paths: dict[bool, list[PurePosixPath]] = {True: [], False: []}
    seen = set()
    for image in read_images(source):
        digest = hashlib.sha256(image.content).digest()
        if digest not in seen:
            seen.add(digest)
            paths[image.is_test].append(image.path)
    candidates = paths[True] or paths[False]
    return candidates[:: max(1, -(-len(candidates) // MAX_GALLERY))]


def _read(source: Path, paths: list[PurePosixPath]) -> Iterator[LocalImage]:
    """The images at some paths; archives are read again, so that no more than a request's images are in memory."""
    wanted = set(paths)
    return (image for image in read_images(source) if image.path in wanted)


def _sample_data(folder: Path) -> Path:
    """CIFAR-10 where there is a network (kept in `folder` for the next time), else a generated set."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / "sample.tar.gz"
    console.print("No DATA given: trying CIFAR-10 from the network ...")
    command = [sys.executable, "-P", "-m", "trainer.sample_data", str(archive)]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)  # noqa: S603  # our own module
    if done.returncode:
        raise StageFailed("no images could be fetched or generated; the reason is above")
    line = done.stdout.splitlines()[-1]
    if json.loads(line)["source"] == "generated":
        console.print("[yellow]No network: these are generated images (shapes and textures), not photographs.[/yellow]")
    else:
        console.print("CIFAR-10, a balanced part of it, from the network.")
    return archive


def archive_of(data: Path | None, data_dir: Path, folder: Path) -> Path:
    """The archive that `data` is, one of the folder that it is, or sample data; made in `folder` or `data_dir`."""
    source = data or _sample_data(data_dir / "sample")
    if not source.is_dir():
        return source
    archive = folder / "images.tar"
    pack_folder(source, archive)
    return archive


@contextmanager
def running_service(data_dir: Path, port: int) -> Iterator[str]:
    """The embedded stack for as long as the demo runs; its address."""
    up = [sys.executable, "-P", "-m", "service.cli", "up", "--data-dir", str(data_dir), "--port", str(port)]
    command = child_command(up, on_parent_death=signal.SIGTERM)
    process = subprocess.Popen(  # noqa: S603  # our own module
        command,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for us, who cancel and stop it
    )
    try:
        assert process.stdout
        for line in process.stdout:
            address = next((word for word in line.split() if word.startswith("http://")), None)
            if address:
                yield address
                break
        else:
            raise StageFailed("the service did not start; its own message is above")
    finally:
        process.terminate()
        process.wait()


def _table(demo: Demo, dataset: ReadyDataset, job: SucceededJob, summary: JSON) -> Table:
    table = Table(title=f"{dataset['num_images']:,} images, {len(dataset['classes'])} classes")
    table.add_column("")
    for name in ("(a) trained", "(b) random initialisation", "(c) raw pixels"):
        table.add_column(name, justify="right")
    for text, key in (
        ("linear probe, top-1", "linear_top1"),
        ("kNN probe, top-1", "knn_top1"),
        (f"search, same-class precision@{K}", "precision_at_10"),
    ):
        if summary[key]:
            table.add_row(text, *(f"{summary[key][encoder]:.3f}" for encoder in ENCODERS))
    table.add_section()
    table.add_row("pretraining, images/s", f"{job['result']['images_per_second']:,.0f}", "", "")
    table.add_row("ONNX parity, least cosine", f"{summary['parity_cosine']:.6f}", "", "")
    table.add_section()
    for stage, seconds in demo.stages.seconds.items():
        table.add_row(f"{stage}, seconds", f"{seconds:.1f}", "", "")
    return table


def _run(client: Client, archive: Path) -> JSON:
    with progress_on(console) as progress:
        demo = Demo(client, Stages(progress))
        dataset = demo.upload_dataset(archive)
        job = demo.pretrain(dataset)
        obstacle = probe_obstacle(dataset["classes"], dataset["splits"])
        if not obstacle:
            demo.probe(dataset)
        paths = _gallery(archive)
        demo.fill_collection(_read(archive, paths), len(paths))
        precision = {} if obstacle else demo.precision_at_k()
    for item in demo.refused:
        console.print(f"Not stored: {item['filename']}: {(item['error'] or {}).get('detail')}", markup=False)
    if obstacle:
        console.print(f"No probes and no precision: {obstacle}. Folders are classes.", markup=False)
    summary = {
        "linear_top1": demo.probes["linear"],
        "knn_top1": demo.probes["knn"],
        "precision_at_10": precision,
        "parity_cosine": client.get(f"/v1/models/{demo.models['trained']}")["parity_cosine"],
        "seconds": demo.stages.seconds,
    }
    console.print(_table(demo, dataset, job, summary))
    return summary


def _check(summary: JSON) -> None:
    for key in ("linear_top1", "knn_top1", "precision_at_10"):
        if not summary[key]:
            continue
        trained, random = summary[key]["trained"], summary[key]["random"]
        if trained <= random < CEILING:
            raise StageFailed(
                f"{key}: the trained encoder ({trained:.3f}) is not above its random start ({random:.3f})"
            )


DataOption = Annotated[
    Path | None, typer.Option(exists=True, help="Folder or archive of your own images; folders are classes.")
]
DataDirOption = Annotated[Path, typer.Option(help="Where the service keeps its data.")]
PortOption = Annotated[int, typer.Option(help="Port of the API while the demo runs.")]


def demo(data: DataOption = None, data_dir: DataDirOption = Path("simclr-data"), port: PortOption = 8000) -> None:
    """Run everything once: upload, pretrain, probe, export, promote, index, search."""
    try:
        with tempfile.TemporaryDirectory() as temporary:
            source = archive_of(data, data_dir, Path(temporary))
            with (
                running_service(data_dir, port) as address,
                Client(address, api_key=ClientSettings().api_key) as client,
            ):
                summary = _run(client, source)
        console.print(f"The model is in {data_dir}; `simclr up --data-dir {data_dir}` serves it.")
        print(json.dumps(summary), flush=True)  # noqa: T201  # the machine-readable result, unwrapped
        _check(summary)
    except (StageFailed, JobFailed, ApiError, httpx.HTTPError, OSError, ValueError) as error:
        typer.echo(f"simclr demo: {error}", err=True)
        raise typer.Exit(1) from error
