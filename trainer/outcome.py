"""How an attempt ended."""

import json
import signal
from dataclasses import dataclass, field
from typing import Any

from service.core.errors import ServiceError
from trainer.run import AWAY, INTERRUPTED, RunFolder

NUM_LOG_LINES = 20
NUM_LOG_BYTES = 8_192
SHELL_SIGKILL = 128 + signal.SIGKILL  # what a shell or a container runtime makes of it


@dataclass(frozen=True)
class Succeeded:
    """The process left its final marker."""

    result: dict[str, Any]


@dataclass(frozen=True)
class Failed:
    """Another attempt would end in the same way."""

    code: str
    message: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Lost:
    """Something broke; another attempt may succeed."""

    reason: str
    message: str


@dataclass(frozen=True)
class Interrupted:
    """It was asked to end before its time."""


@dataclass(frozen=True)
class Cancelled:
    """Its user wanted no more of it."""


Outcome = Succeeded | Failed | Lost | Interrupted | Cancelled


def outcome_of(run: RunFolder, returncode: int, *, interrupted: bool, out_of_memory: bool) -> Outcome:
    """What the files and the exit code of an ended process say; the files count first."""
    if run.result.exists():
        return Succeeded(json.loads(run.result.read_bytes()))
    if run.error.exists():
        return Failed(**json.loads(run.error.read_bytes()))
    if interrupted or returncode == INTERRUPTED:
        return Interrupted()
    return _loss(returncode, out_of_memory=out_of_memory) or Failed(
        "crashed", f"the process ended with exit code {returncode}:\n{_log_end(run)}"
    )


def _loss(returncode: int, *, out_of_memory: bool) -> Lost | None:
    if returncode == AWAY:
        return Lost("dependency_away", "the database or the storage did not answer")
    if returncode == SHELL_SIGKILL or (returncode == -signal.SIGKILL and out_of_memory):
        return Lost("rank_oom", "the process was killed for want of memory")
    if returncode < 0:
        return Lost("rank_killed", f"the process was killed by {signal.Signals(-returncode).name}")
    return None


def outcome_of_error(error: ServiceError) -> Lost | Failed:
    """What an error outside the process makes of the attempt: one that says when to try again may pass."""
    kind = Failed if error.retry_after_seconds is None else Lost
    return kind(error.code, error.detail)


def _log_end(run: RunFolder) -> str:
    with run.log.open("rb") as log:
        log.seek(max(0, run.log.stat().st_size - NUM_LOG_BYTES))
        return "\n".join(log.read().decode(errors="replace").splitlines()[-NUM_LOG_LINES:])
