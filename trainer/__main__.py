"""The training process: `python -m trainer RUN_FOLDER` (trainer/run.py describes the folder).

SIGTERM asks pretraining to checkpoint and to exit with INTERRUPTED; a probe starts over, so it just ends. So does one
of several ranks until all have arrived: it has nothing to save.
"""

import signal
import sys
from pathlib import Path

import torch

from trainer.loop import Interrupted, pretrain
from trainer.probes.knn import run_knn_probe
from trainer.probes.linear import run_linear_probe
from trainer.ranks import COLLECTIVE_SECONDS, PeerLost, joined
from trainer.run import INTERRUPTED, PEER_GONE, PEER_SILENT, RunError, RunFolder, RunSpec


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
    try:
        if kind == "pretrain":
            _pretrain(run, spec, collective_seconds)
        elif kind == "linear_probe":
            run.succeed(run_linear_probe(run))
        else:
            assert kind == "knn_probe"
            run.succeed(run_knn_probe(run))
    except Interrupted:
        return INTERRUPTED
    except PeerLost as error:
        print(error, file=sys.stderr)  # noqa: T201  # into the log
        return PEER_SILENT if error.silent else PEER_GONE
    except RunError as error:
        run.fail(error)
        return 1
    except torch.OutOfMemoryError as error:
        run.fail(RunError("rank_oom", f"the device ran out of memory; set recipe.microbatch_size ({error})"))
        return 1
    return 0


def _pretrain(run: RunFolder, spec: RunSpec, collective_seconds: float) -> None:
    stop = StopFlag()
    with joined(spec.device, collective_seconds) as ranks:
        signal.signal(signal.SIGTERM, stop.set)
        result = pretrain(run, lambda: stop.is_set, ranks)
    if result is not None:
        run.succeed(result)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
