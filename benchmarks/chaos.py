"""Are the service's promises kept? Its parts are killed, its disk filled, its door stormed: a table says.

    python benchmarks/chaos.py [--faults postgres worker] [--seed 0] [--out chaos.json]

    jobs      two worker nodes train beside a queue of short jobs, while each part is struck (promises/faults.py), and
              one worker hangs; every job has to end once, and training with the weights of an undisturbed one
    uploads   the API and PostgreSQL are killed in the middle of uploads (upload_crashes.py)
    serving   hostile uploads, six times the capacity, switches of model, SIGTERM, a full disk

`--faults` leaves it at the jobs, under these faults. About five minutes on two cores that nobody else uses; beside
other work the figures of time are worse. Ends with one JSON line; exits with 1 when a promise is not kept.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from machine import device_name, versions
from promises import killed, serving, uploads
from promises.faults import FAULTS
from promises.ledger import Ledger


def measure(ledger: Ledger, folder: Path, faults: Sequence[str] | None, seed: int) -> None:
    """Put the promises to the test, one part of the service after the other."""
    parts: dict[str, Callable[[Ledger, Path], None]] = {
        "jobs": partial(killed.measure, faults=faults or list(FAULTS), seed=seed, with_freezing=not faults)
    }
    if not faults:
        parts |= {"uploads": partial(uploads.measure, seed=seed), "serving": serving.measure}
    seconds = {}
    for name, part in parts.items():
        began = time.monotonic()
        (folder / name).mkdir()
        part(ledger, folder / name)
        seconds[name] = round(time.monotonic() - began)
    ledger.note(part_seconds=seconds)


def main() -> int:
    """Measure, and print; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", nargs="+", choices=FAULTS, help="only the jobs, under these faults")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of nodes, and of when uploads are struck")
    parser.add_argument("--out", type=Path, help="file for the JSON line")
    options = parser.parse_args()
    ledger, began = Ledger(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="simclr-chaos-") as folder:
        measure(ledger, Path(folder), options.faults, options.seed)
    ledger.note(seconds=round(time.monotonic() - began), device=device_name(), versions=versions())
    ledger.show()
    line = json.dumps(ledger.summary())
    if options.out:
        options.out.write_text(line + "\n")
    print(line)
    return int(ledger.num_met < len(ledger.entries))


if __name__ == "__main__":
    sys.exit(main())
