"""How an attempt ended."""

import json
import signal
from dataclasses import asdict, dataclass, field
from typing import Any

from service.core.errors import ServiceError
from trainer.run import AWAY, INTERRUPTED, PEER_GONE, PEER_SILENT, RunFolder

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
class PeerLost(Lost):
    """A process on another node is gone or hangs: a consequence, of which that node's agent may know the cause."""


@dataclass(frozen=True)
class Left:
    """The processes of this node are done, as all are; the agent of the first node ends the job or gives it back."""


@dataclass(frozen=True)
class Interrupted:
    """It was asked to end before its time."""


@dataclass(frozen=True)
class Cancelled:
    """Its user wanted no more of it."""


Outcome = Succeeded | Failed | Lost | Left | Interrupted | Cancelled
Loss = Failed | Lost | Interrupted  # what ends an attempt though it isn't done
LOSSES: dict[str, type[Loss]] = {kind.__name__: kind for kind in (Failed, Lost, PeerLost, Interrupted)}


def loss_as_json(loss: Loss) -> dict[str, Any]:
    """The loss as it stands in a placement's row."""
    return {"kind": type(loss).__name__, **asdict(loss)}


def loss_from_json(fields: dict[str, Any]) -> Loss:
    """The loss that a placement's row tells of."""
    values = dict(fields)
    return LOSSES[values.pop("kind")](**values)


def outcome_of(
    run: RunFolder, returncode: int, *, interrupted: bool, out_of_memory: bool, is_first_node: bool = True
) -> Outcome:
    """What the files and the exit code of an ended process say; the files count first."""
    if run.result.exists():
        return Succeeded(json.loads(run.result.read_bytes()))
    if run.error.exists():
        return Failed(**json.loads(run.error.read_bytes()))
    if returncode in {0, INTERRUPTED} and not is_first_node:
        return Left()
    if interrupted or returncode == INTERRUPTED:
        return Interrupted()
    who = "the process"
    if run.first_loss.exists():
        loss = json.loads(run.first_loss.read_bytes())
        who, returncode = f"rank {loss['rank']}", loss["returncode"]
    return _loss(who, returncode, out_of_memory=out_of_memory) or Failed(
        "crashed", f"{who} ended with exit code {returncode}:\n{_log_end(run)}"
    )


def _loss(who: str, returncode: int, *, out_of_memory: bool) -> Lost | None:
    if returncode == AWAY:
        return Lost("dependency_away", "the database or the storage did not answer")
    if returncode == SHELL_SIGKILL or (returncode == -signal.SIGKILL and out_of_memory):
        return Lost("rank_oom", f"{who} was killed for want of memory")
    if returncode == PEER_GONE:
        return PeerLost("node_lost", f"{who} lost the connection to another one")
    if returncode == PEER_SILENT:
        return PeerLost("timeout", f"{who} waited in vain for another one")
    if returncode < 0:
        return Lost("rank_killed", f"{who} was killed by {signal.Signals(-returncode).name}")
    return None


def outcome_of_error(error: ServiceError) -> Lost | Failed:
    """What an error outside the process makes of the attempt: one that says when to try again may pass."""
    kind = Failed if error.retry_after_seconds is None else Lost
    return kind(error.code, error.detail)


def _log_end(run: RunFolder) -> str:
    with run.log.open("rb") as log:
        log.seek(max(0, run.log.stat().st_size - NUM_LOG_BYTES))
        return "\n".join(log.read().decode(errors="replace").splitlines()[-NUM_LOG_LINES:])
