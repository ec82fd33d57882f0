"""Run folders (trainer/run.py) that the product's own processes work on, watched from a terminal."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from images import write_archive

from service.core.child import child_command
from service.local_files import LocalImage
from trainer.memory import KEEP_MEMORY
from trainer.run import INTERRUPTED, IngestLimits, RunFolder, RunSpec

POLL_SECONDS = 0.5
TELL_SECONDS = 5.0
OWN_IMAGES = IngestLimits(  # no upload of a stranger's
    max_archive_bytes=2**40,
    max_archive_entries=2**24,
    max_archive_ratio=1000,
    max_image_bytes=2**26,
    max_image_pixels=2**27,
    max_image_side=2**15,
    decode_timeout_seconds=120,
)


def run_folder(path: Path, spec: RunSpec, *, dataset: Path | None = None, model: Path | None = None) -> RunFolder:
    """The folder for `spec`, with links to the files of a packed data set and a model; as it is if it was there before.

    Exits where it was made for another spec.
    """
    run = RunFolder(path)
    spec = RunSpec.model_validate_json(spec.model_dump_json())  # as it is read again: tuples are lists
    if run.spec_path.exists():
        if run.spec() != spec:
            sys.exit(f"{path} is of another recipe or device; give another --work, or remove it")
        return run
    for source, folder in ((dataset, run.dataset), (model, run.model)):
        folder.mkdir(parents=True, exist_ok=True)
        for file in source.iterdir() if source else ():
            (folder / file.name).symlink_to(file.resolve())
    run.create(spec)
    return run


def packed(path: Path, images: Callable[[], Iterable[LocalImage]], *, storage_side: int = 256) -> Path:
    """The folder of the packed data set that an ingest job in `path` makes of the images, now or before."""
    recipe = {"on_invalid": "skip", "storage_side": storage_side}
    run = run_folder(path, RunSpec(kind="ingest", recipe=recipe, limits=OWN_IMAGES))
    if not run.result.exists():
        write_archive(run.archive, images())
        result(run)
        run.archive.unlink()
    return run.output


def result(run: RunFolder) -> dict[str, Any]:
    """What the folder's process answers, now or before; tells how far it is meanwhile. Exits if it fails."""
    if not run.result.exists():
        with process_of(run) as process:
            told_at = -TELL_SECONDS
            while process.poll() is None:
                time.sleep(POLL_SECONDS)
                if time.monotonic() - told_at >= TELL_SECONDS and (past := events(run)):
                    print(f"  {run.path.name}: {_told(past[-1])}", flush=True)
                    told_at = time.monotonic()
        if process.returncode:
            sys.exit(_failure(run, process.returncode))
    answer: dict[str, Any] = json.loads(run.result.read_text())
    return answer


@contextmanager
def process_of(run: RunFolder) -> Iterator[subprocess.Popen[bytes]]:
    """The process that works on the folder; asked to checkpoint and end when this block or process ends."""
    module = "trainer.ingest" if run.spec().kind == "ingest" else "trainer"
    command = child_command([sys.executable, "-m", module, str(run.path)], on_parent_death=signal.SIGTERM)
    with run.log.open("ab") as log:
        # A group of its own: Ctrl-C is for this process, which then asks that one to checkpoint.
        process = subprocess.Popen(
            command, env=KEEP_MEMORY | os.environ, stdout=log, stderr=subprocess.STDOUT, process_group=0
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def events(run: RunFolder) -> list[dict[str, Any]]:
    """The events so far, without a line that is still being written."""
    written = run.events.read_text() if run.events.exists() else ""
    return [json.loads(line) for line in written.split("\n")[:-1]]


def _told(event: dict[str, Any]) -> str:
    if event["type"] == "metrics":
        return (
            f"epoch {event['epoch']:.1f} of {event['epochs']}, loss {event['loss']:.3f},"
            f" {event['images_per_second']:.0f} images/s, {event['eta_seconds']:.0f} s left"
        )
    if event["type"] == "stage":
        return f"{event['stage']} {event['step']} of {event['steps']}" if "step" in event else str(event["stage"])
    return str(event.get("message", event["type"]))


def _failure(run: RunFolder, status: int) -> str:
    if status == INTERRUPTED:
        return f"{run.path}: interrupted; the same command goes on from its newest checkpoint"
    if run.error.exists():
        return f"{run.path}: {json.loads(run.error.read_text())['message']}"
    return f"{run.path}: exit status {status}\n{run.log.read_text()[-2000:]}"
