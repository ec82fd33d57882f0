"""How much of what is broken on purpose the tests notice, in what guards the service: keys, limits, storage, jobs.

    python benchmarks/mutation_score.py [--sample N] [--seed S] [--seconds T] [--only service/rates.py ...]

mutmut makes mutants of the files below, one small change each, and runs for each the tests that reach the function. It
changes functions and methods, not what decorates them. A mutant is caught when a test fails or takes too long. Prints a
table and a JSON line; exits with 1 when less than LEAST of the mutants are caught. --sample tries N of them, drawn with
the seed from all. The tests' PostgreSQL and Valkey run once for all mutants; each run of tests has its own database.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from machine import device_name, num_cores, versions
from mutmut.stats import status_by_exit_code

from service.core.schema import migrate
from service.embedded.postgres import EmbeddedPostgres
from service.embedded.valkey import EmbeddedValkey

ROOT = Path(__file__).resolve().parent.parent
LEAST = 0.8
FILES = (
    *(f"service/{name}.py" for name in ("authentication", "keyring", "scopes", "rates", "limits", "admission")),
    *(f"service/core/{name}.py" for name in ("keys", "quotas", "storage", "jobs")),
)
CAUGHT = ("killed", "timeout")  # mutmut's words for what came of a mutant
NOT_TRIED = "not checked"
TESTS = (
    *(f"tests/service/test_{name}.py" for name in ("admission", "key_commands", "keyring", "problems", "rates")),
    *(f"tests/service/routes/test_{name}.py" for name in ("authentication", "jobs", "keys", "tenants")),
    *(f"tests/service/core/test_{name}.py" for name in ("jobs", "keys", "quotas", "storage")),
)
CONFIGURATION = f"""
[tool.mutmut]
source_paths = ["service"]
only_mutate = {json.dumps(FILES)}
also_copy = ["models", "trainer"]
pytest_add_cli_args_test_selection = {json.dumps(TESTS)}
pytest_add_cli_args = ["-p", "no:cacheprovider", "--durations=0"]
process_isolation = "forkserver"  # what the tests leave in a process, threads among it, doesn't survive a fork
use_git_change_detection = false
track_dependencies = false
timeout_constant = 10.0
"""


def copy_tree(folder: Path) -> None:
    """What mutmut needs, where it may write."""
    for name in ("models", "trainer", "service", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + CONFIGURATION)


@contextmanager
def servers() -> Iterator[dict[str, str]]:
    """The environment in which tests use servers that run (tests/conftest.py)."""
    with tempfile.TemporaryDirectory(prefix="simclr-mutants-") as name:
        folder = Path(name)
        postgres = EmbeddedPostgres(folder / "postgres", folder / "postgres.log")
        valkey = EmbeddedValkey(folder / "valkey", folder / "valkey.log")
        try:
            url = postgres.start()
            migrate(url)
            yield {"TESTS_POSTGRES_URL": url, "TESTS_REDIS_URL": valkey.start()}
        finally:
            valkey.stop()
            postgres.stop()


def make_mutants(tree: Path, environment: Mapping[str, str]) -> None:
    """Make all and learn which tests reach them; asked to try none of them, mutmut ends with an error then."""
    _mutmut(tree, environment, "no such*")


def try_mutants(
    tree: Path, environment: Mapping[str, str], names: Sequence[str], children: int, seconds: float | None
) -> None:
    """Run the tests for the mutants of these names, those with the quickest tests first, as far as the time goes."""
    if _mutmut(tree, environment, "--max-children", str(children), *names, seconds=seconds):
        sys.exit("mutmut failed; what it printed says why")


def _mutmut(tree: Path, environment: Mapping[str, str], *arguments: str, seconds: float | None = None) -> int:
    environment = {**os.environ, **environment, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    command = [sys.executable, "-m", "mutmut", "run", *arguments]
    with subprocess.Popen(command, cwd=tree, env=environment, stdout=sys.stderr) as process:
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # it ends the tests that run, and keeps what came of the others
            return process.wait()


def results(tree: Path) -> dict[str, dict[str, str]]:
    """By file the outcome of each mutant."""
    found = {}
    for file in FILES:
        path = tree / "mutants" / f"{file}.meta"
        codes: dict[str, int | None] = json.loads(path.read_text())["exit_code_by_key"]
        found[file] = {name: status_by_exit_code[code] for name, code in codes.items()}
    return found


def score(outcomes: Mapping[str, str]) -> dict[str, Any]:
    """Of the mutants that were tried, how many were caught."""
    counts = Counter(outcomes.values())
    tried = len(outcomes) - counts.pop(NOT_TRIED, 0)
    caught = sum(counts[word] for word in CAUGHT)
    about = {"mutants": len(outcomes), "tried": tried, "caught": caught, "outcomes": dict(counts)}
    return {**about, "score": round(caught / tried, 3) if tried else None}


def report(found: Mapping[str, Mapping[str, str]], about: Mapping[str, Any]) -> dict[str, Any]:
    """Print the table; the line of JSON, as a dict."""
    files = {file: score(outcomes) for file, outcomes in found.items()}
    whole = score({name: outcome for outcomes in found.values() for name, outcome in outcomes.items()})
    print(f"{'file':32} {'mutants':>8} {'tried':>6} {'caught':>7} {'score':>6}")
    for file, row in {**files, "all": whole}.items():
        shown = "" if row["score"] is None else f"{row['score']:.0%}"
        print(f"{file:32} {row['mutants']:8} {row['tried']:6} {row['caught']:7} {shown:>6}")
    noticed = {*CAUGHT, NOT_TRIED}
    survivors = [name for outcomes in found.values() for name, outcome in outcomes.items() if outcome not in noticed]
    return {**about, "all": whole, "files": files, "survivors": sorted(survivors)}


def main() -> int:
    """Make the mutants, try them or a sample of them, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, help="mutants to try; default: all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--only", nargs="+", choices=FILES, default=FILES, metavar="FILE", help="only mutants of these")
    parser.add_argument("--children", type=int, default=num_cores(), help="mutants that are tried at once")
    parser.add_argument("--seconds", type=float, help="for trying them; default: as long as it takes")
    parser.add_argument("--output", type=Path, help="a file for the JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="simclr-mutants-") as name, servers() as environment:
        tree = Path(name)
        copy_tree(tree)
        make_mutants(tree, environment)
        made = results(tree)
        names = sorted(name for file in options.only for name in made[file])
        if options.sample is not None and options.sample < len(names):
            names = sorted(random.Random(options.seed).sample(names, options.sample))  # noqa: S311  # no secret
        try_mutants(tree, environment, names, options.children, options.seconds)
        about = {"processor": device_name(), "sample": len(names), "seed": options.seed, "seconds": options.seconds}
        about |= versions("mutmut")
        found = report(results(tree), about)
    print(json.dumps(found))
    if options.output:
        options.output.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if found["all"]["score"] >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
