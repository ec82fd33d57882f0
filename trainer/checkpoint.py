"""Training states on disk: whole or absent, verified when read, the two newest kept.

A checkpoint is step-00000120.pt and, once that is whole, step-00000120.json with its sha256. All randomness of a run is
a function of (seed, step), so the step is also the state of every random generator and the position in the data.
"""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import torch

from service.core import tracing
from trainer.ranks import ALONE, Ranks
from trainer.run import write_atomically

KEPT = 2


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Write the state after `step` steps and forget all but the newest two."""
    with tracing.span("checkpoint", step=step) as span:
        buffer = io.BytesIO()
        torch.save({"step": step, **state}, buffer)
        content = buffer.getvalue()
        path = folder / f"step-{step:08d}.pt"
        write_atomically(path, content)
        manifest = {"step": step, "sha256": hashlib.sha256(content).hexdigest(), "num_bytes": len(content)}
        write_atomically(path.with_suffix(".json"), json.dumps(manifest).encode())
        span.note(num_bytes=len(content))
    for old in sorted(folder.glob("step-*.json"))[:-KEPT]:
        old.unlink()
        old.with_suffix(".pt").unlink(missing_ok=True)


def load_newest_checkpoint(folder: Path, device: torch.device, ranks: Ranks = ALONE) -> dict[str, Any] | None:
    """The newest state whose bytes are those that were written, or None; on every rank that of the first's folder."""
    content = ranks.broadcast(_newest_content(folder) if ranks.is_first else None)
    if content is None:
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    return state


def _newest_content(folder: Path) -> bytes | None:
    for manifest_path in sorted(folder.glob("step-*.json"), reverse=True):
        content = _whole_content(manifest_path)
        if content is not None:
            return content
    return None


def _whole_content(manifest_path: Path) -> bytes | None:
    """The state that a manifest names; None if it, or the manifest, is lost or not what was written."""
    try:
        sha256 = json.loads(manifest_path.read_bytes())["sha256"]
        content = manifest_path.with_suffix(".pt").read_bytes()
    except (FileNotFoundError, ValueError, LookupError, TypeError):  # no state, no JSON, or JSON of something else
        return None
    return content if hashlib.sha256(content).hexdigest() == sha256 else None
