"""Starts the processes of a job on one node, as torchrun would, and ends them together.

    python -m trainer.launch RUN_FOLDER --run-id I --first-rank R --processes P --world-size W --address A --port P
        -- COMMAND...

Each process runs COMMAND with torchrun's environment. SIGTERM goes on to all. If one fails, the others are killed, and
first_loss.json names the one whose end was the cause: a rank that only lost its peer isn't, if there is another.
Ends with 0, with INTERRUPTED if a rank did, or with 1. If it is killed, its ranks die with it.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from service.core import tracing
from service.core.child import child_command
from trainer.run import INTERRUPTED, PEER_GONE, PEER_SILENT, RunFolder, write_atomically

POLL_SECONDS = 0.05
GRACE_SECONDS = 2  # for the rank that died first to be seen, where one that lost it was seen before

Processes = dict[int, subprocess.Popen[bytes]]  # by rank


def main(arguments: Sequence[str]) -> int:
    """Run the ranks to their end; the exit status."""
    options, command = _parse(arguments)
    asked_to_stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked_to_stop.append(number))
    tracing.start("trainer")
    with tracing.span("launch", parent=tracing.inherited(), first_rank=options.first_rank, ranks=options.processes):
        ranks = {options.first_rank + i: _start(command, options, i) for i in range(options.processes)}
        codes = _wait(ranks, asked_to_stop)
    losses = {rank: code for rank, code in codes.items() if code not in {0, INTERRUPTED}}
    if losses:
        rank = min(losses, key=lambda rank: losses[rank] in {PEER_GONE, PEER_SILENT})  # of equals the first to end
        loss = {"rank": rank, "returncode": losses[rank]}
        write_atomically(RunFolder(options.run_folder).first_loss, json.dumps(loss).encode())
        return 1
    return INTERRUPTED if INTERRUPTED in codes.values() else 0


def _parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, Sequence[str]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_folder", type=Path)
    for name in ("--first-rank", "--processes", "--world-size", "--port"):
        parser.add_argument(name, type=int, required=True)
    for name in ("--address", "--run-id"):
        parser.add_argument(name, required=True)
    split = arguments.index("--") if "--" in arguments else len(arguments)
    return parser.parse_args(arguments[:split]), arguments[split + 1 :]


def _start(command: Sequence[str], options: argparse.Namespace, local_rank: int) -> subprocess.Popen[bytes]:
    environment = {
        "RANK": options.first_rank + local_rank,
        "LOCAL_RANK": local_rank,
        "WORLD_SIZE": options.world_size,
        "LOCAL_WORLD_SIZE": options.processes,
        "MASTER_ADDR": options.address,
        "MASTER_PORT": options.port,
        "TORCHELASTIC_RUN_ID": options.run_id,
    }
    return subprocess.Popen(  # noqa: S603  # the command is one of ours
        child_command(command, on_parent_death=signal.SIGKILL),
        env=os.environ | {name: str(value) for name, value in environment.items()} | tracing.handed_on(),
    )


def _wait(ranks: Processes, asked_to_stop: list[int]) -> dict[int, int]:
    """The exit codes of all ranks, in the order in which they ended before any was killed from here."""
    codes: dict[int, int] = {}
    kill_at = float("inf")
    while len(codes) < len(ranks):
        time.sleep(POLL_SECONDS)
        if asked_to_stop:
            asked_to_stop.clear()
            _signal_all(ranks, codes, signal.SIGTERM)
        for rank, process in ranks.items():
            if rank not in codes and (code := process.poll()) is not None:
                codes[rank] = code
                if code not in {0, INTERRUPTED}:
                    grace = GRACE_SECONDS if code in {PEER_GONE, PEER_SILENT} else 0
                    kill_at = min(kill_at, time.monotonic() + grace)
        if time.monotonic() >= kill_at:
            _signal_all(ranks, codes, signal.SIGKILL)
            for rank, process in ranks.items():
                process.wait()
                codes.setdefault(rank, 0)  # killed from here: no cause
    return codes


def _signal_all(ranks: Processes, ended: dict[int, int], number: signal.Signals) -> None:
    for rank, process in ranks.items():
        if rank not in ended:
            process.send_signal(number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
