"""schemathesis, as the contract is fuzzed with it."""

import os
import subprocess
import sys
from pathlib import Path

from tests.contract.world import KEYS_FILE

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIG = Path(__file__).with_name("schemathesis.toml")
PHASES = "examples,coverage,fuzzing,stateful"


def fuzz(
    url: str, folder: Path, *options: str, phases: str = PHASES, quiet: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run it against the API at `url`, furnished in `folder`."""
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", f"{url}/openapi.json"]
    command += ["--phases", phases, "--mode", "all", "--no-color", *options]
    keys = {"CONTRACT_KEYS": str(folder / KEYS_FILE), "CONTRACT_REPORTS": str(folder)}
    environment = os.environ | keys | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=quiet, check=False)
