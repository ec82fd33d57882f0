"""The training process: `python -m trainer RUN_FOLDER` (trainer/run.py describes the folder).

SIGTERM asks pretraining and fine-tuning to checkpoint and to exit with INTERRUPTED; any other job starts over, so it
just ends. So does one of several ranks until all have arrived: it has nothing to save.
"""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from service.core import tracing
from trainer.export import run_export
from trainer.finetune import finetune
from trainer.loop import Interrupted, pretrain
from trainer.probes.knn import run_knn_probe
from trainer.probes.layer_sweep import run_layer_sweep
from trainer.probes.linear import run_linear_probe
from trainer.probes.transform import run_transform_probe
from trainer.ranks import COLLECTIVE_SECONDS, PeerLost, joined
from trainer.run import INTERRUPTED, PEER_GONE, PEER_SILENT, RunError, RunFolder, RunSpec

PROBES: Mapping[str, Callable[[RunFolder], dict[str, Any]]] = {
    "linear_probe": run_linear_probe,
    "knn_probe": run_knn_probe,
    "layer_sweep": run_layer_sweep,
    "transform_probe": run_transform_probe,
}


OUT_OF_MEMORY = {"pretrain": "set recipe.microbatch_size", "finetune": "lower recipe.batch_size"}


class StopFlag:
    """Set by SIGTERM, read by the loop at the end of each step."""

    def __init__(self) -> None:
        self.is_set = False

    def set(self, *_: object) -> None:
        """Handle the signal."""
        self.is_set = True


def main(path: Path, *, collective_seconds: float = COLLECTIVE_SECONDS) -> int:
    """Do what the run folder asks for; the exit status."""
    run = RunFolder(path)
    spec = run.spec()
    kind = spec.kind
    tracing.start("trainer")
    try:
        _refuse_unusable_gpu(spec)
        with tracing.span("rank", parent=tracing.inherited(), rank=int(os.environ.get("RANK", "0")), job_kind=kind):
            if kind == "pretrain":
                _pretrain(run, spec, collective_seconds)
            elif kind == "finetune":
                run.succeed(finetune(run, _stop_on_sigterm()))
            else:
                run.succeed((run_export if kind == "export" else PROBES[kind])(run))
    except Interrupted:
        return INTERRUPTED
    except PeerLost as error:
        print(error, file=sys.stderr, flush=True)  # noqa: T201  # into the log
        tracing.stop()  # nothing runs at this exit
        # The groups' threads still wait for the lost rank; to end orderly beside them aborts now and then.
        os._exit(PEER_SILENT if error.silent else PEER_GONE)
    except RunError as error:
        run.fail(error)
        return 1
    except torch.OutOfMemoryError as error:
        run.fail(
            RunError(
                "rank_oom", f"the device ran out of memory; {OUT_OF_MEMORY.get(kind, 'take a larger one')} ({error})"
            )
        )
        return 1
    return 0


def _refuse_unusable_gpu(spec: RunSpec) -> None:
    """Raises RunError (`no_gpu`) if this process is to work on a GPU and PyTorch can't."""
    if spec.device != "cuda":
        return
    try:
        torch.ones(1, device=torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))).item()
    except (RuntimeError, AssertionError) as error:  # the latter from a build without CUDA
        if "out of memory" in str(error):  # which isn't always an OutOfMemoryError before the first allocation
            raise torch.OutOfMemoryError(str(error)) from error
        reason = str(error).splitlines()[0]
        advice = 'run `simclr doctor` on the node and start its worker again, or set resources.device to "cpu"'
        raise RunError("no_gpu", f"PyTorch {torch.__version__} can't use the job's GPU ({reason}); {advice}") from error


def _stop_on_sigterm() -> Callable[[], bool]:
    """Whether the signal has come since this call."""
    stop = StopFlag()
    signal.signal(signal.SIGTERM, stop.set)
    return lambda: stop.is_set


def _pretrain(run: RunFolder, spec: RunSpec, collective_seconds: float) -> None:
    with joined(spec.device, collective_seconds) as ranks:
        result = pretrain(run, _stop_on_sigterm(), ranks)
        if result is not None:  # before the ranks part: that may wait for those that are gone
            run.succeed(result)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
