"""Holds a service of its own against its OpenAPI document, on servers that end with it.

    python -m tests.contract [--examples N] [--seconds N] [--operation ID ...]

Exits as schemathesis does: 1 if a check failed.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from service.embedded.postgres import EmbeddedPostgres
from service.embedded.valkey import EmbeddedValkey
from tests.contract.fuzzing import PHASES, fuzz
from tests.contract.world import LOG_FILE, running_world


def main() -> int:
    """Start the servers, and ask."""
    parser = argparse.ArgumentParser(prog="python -m tests.contract", description=__doc__.partition("\n")[0])
    parser.add_argument("--examples", type=int, default=50, help="requests of each operation and phase (50)")
    parser.add_argument("--seconds", type=int, help="go on until then, in place of a fixed number")
    parser.add_argument("--operation", action="append", default=[], help="only this operation id")
    parser.add_argument("--phases", default=PHASES, help=f"some of {PHASES}")
    given = parser.parse_args()
    options = ["--max-examples", str(given.examples), *(["--max-time", str(given.seconds)] if given.seconds else [])]
    for name in given.operation:
        options += ["--include-operation-id", name]
    with tempfile.TemporaryDirectory(prefix="simclr-contract-") as name:
        folder = Path(name)
        postgres = EmbeddedPostgres(folder / "postgres", folder / "postgres.log")
        valkey = EmbeddedValkey(folder / "valkey", folder / "valkey.log")
        try:
            with running_world(folder, postgres.start(), valkey.start()) as url:
                failed = fuzz(url, folder, *options, phases=given.phases).returncode
                if failed:
                    sys.stderr.write(_errors(folder))
                return failed
        finally:
            valkey.stop()
            postgres.stop()


def _errors(folder: Path) -> str:
    """What the service itself has to say of its errors: the lines of its log."""
    lines = (folder / LOG_FILE).read_text(errors="replace").splitlines()
    return "\n".join(line for line in lines if '"level": "error"' in line)


if __name__ == "__main__":
    sys.exit(main())
