"""The run folder: the whole contract between a training process and whoever started it.

    spec.json        what to do (RunSpec)                               in
    dataset/         a packed data set (trainer/pack.py)                in, all but ingest, index and map
    model/           model.onnx, encoder.pt, model.json                 in, probes, fine-tuning and export
    archive          the uploaded bytes                                 in, ingest
    vectors/         a collection's vectors (trainer/vector_file.py)    in, map
    checkpoints/     step-00000120.pt and, once it is whole, .json      in (to resume from) and out
    events.jsonl     one JSON object a line: stage, metrics, warning    out
    output/          the files to publish                               out
    result.json      written last: the job succeeded                    out
    error.json       {"code", "message", "details"?}: it failed, why    out
    first_loss.json  {"rank", "returncode"}: which rank died (launch.py) out
    log.txt          stdout and stderr                                  out

The process knows nothing of jobs, queues, HTTP or databases. SIGTERM asks it to checkpoint at the end of the
step and to exit with INTERRUPTED. A process that works on what is away meanwhile, exits with AWAY.

Several processes may train together, each of them with torchrun's environment (RANK, LOCAL_RANK, WORLD_SIZE,
MASTER_ADDR, MASTER_PORT). Those of one node share its run folder. Rank 0 alone reads and writes checkpoints and
writes events, output and result; any rank may write error.json. The others end with 0 when training is over, with
INTERRUPTED when rank 0 does, and with PEER_GONE or PEER_SILENT when another is lost.
"""

import json
import os
from pathlib import Path
from typing import Any, Literal

from models.config import Frozen

INTERRUPTED = 75  # sysexits' EX_TEMPFAIL: come back later
AWAY = 69  # sysexits' EX_UNAVAILABLE: the database or the storage doesn't answer
PEER_GONE = 76  # sysexits' EX_PROTOCOL: another rank is gone; the reason is there, not here
PEER_SILENT = 77  # another rank did not answer within the time that collective operations have


class IngestLimits(Frozen):
    """What an archive and its images may cost; the settings of the same names."""

    max_archive_bytes: int
    max_archive_entries: int
    max_archive_ratio: int
    max_image_bytes: int
    max_image_pixels: int
    max_image_side: int
    decode_timeout_seconds: float


class RunSpec(Frozen):
    """What a run folder asks for."""

    kind: Literal[
        "pretrain",
        "finetune",
        "linear_probe",
        "knn_probe",
        "layer_sweep",
        "transform_probe",
        "export",
        "ingest",
        "index",
        "map",
    ]
    recipe: dict[str, Any]
    device: Literal["cpu", "cuda"] = "cpu"
    limits: IngestLimits | None = None  # of an ingest job


class RunError(RuntimeError):
    """The work failed for a reason that its owner can act on; `code` is stable, `details` are for programs."""

    def __init__(self, code: str, message: str, *, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is whole or absent, also over a power cut."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.partial")  # of several ranks each its own
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


class RunFolder:
    """Paths and writes of a run folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spec_path = path / "spec.json"
        self.dataset = path / "dataset"
        self.model = path / "model"
        self.archive = path / "archive"
        self.vectors = path / "vectors"
        self.checkpoints = path / "checkpoints"
        self.events = path / "events.jsonl"
        self.output = path / "output"
        self.result = path / "result.json"
        self.error = path / "error.json"
        self.first_loss = path / "first_loss.json"
        self.log = path / "log.txt"

    def create(self, spec: RunSpec) -> None:
        """Make the folder for `spec`, with empty subfolders."""
        for folder in (self.dataset, self.model, self.checkpoints, self.output):
            folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.spec_path, spec.model_dump_json().encode())

    def spec(self) -> RunSpec:
        """What the folder asks for."""
        return RunSpec.model_validate_json(self.spec_path.read_bytes())

    def emit(self, type_: str, **data: Any) -> None:
        """Append an event; one with `step` and `steps` is also the job's progress."""
        line = json.dumps({"type": type_, **data}, allow_nan=False)
        with self.events.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def succeed(self, result: dict[str, Any]) -> None:
        """Leave the final marker; the files in output/ must be whole by now."""
        write_atomically(self.result, json.dumps(result, allow_nan=False).encode())

    def fail(self, error: RunError) -> None:
        """Leave the reason of the failure."""
        reason: dict[str, Any] = {"code": error.code, "message": error.message}
        if error.details is not None:
            reason["details"] = error.details
        write_atomically(self.error, json.dumps(reason).encode())
