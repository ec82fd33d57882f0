"""How much of what is broken on purpose the tests notice, in what guards the service: keys, limits, storage, jobs.

    python benchmarks/mutation_score.py [--sample N] [--seed S] [--only service/rates.py ...] [--output FILE]

mutmut makes mutants of the files below, one small change each, and runs for each those tests that reach the function,
of the files of tests that are there to guard it: what others notice besides isn't counted. It changes functions and
methods, not what decorates them. A mutant is caught when a test fails, or when twice it takes too long. Prints a table
and a JSON line; exits with 1 when less than LEAST of the mutants of a file are caught. --sample tries N of each file,
drawn with the seed. In an --output that is there already, the files that were tried are replaced. The tests' PostgreSQL
and Valkey run once for all; each run of tests has its own database.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

from machine import device_name, num_cores, versions
from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.stats import status_by_exit_code
from mutmut.utils.format_utils import get_mutant_name

from service.core.schema import migrate
from service.embedded.postgres import EmbeddedPostgres
from service.embedded.valkey import EmbeddedValkey

ROOT = Path(__file__).resolve().parent.parent
LEAST = 0.8
GUARDS = {  # by file the tests that are there for it, below tests/service
    "service/authentication.py": ("routes/test_authentication.py", "routes/test_keys.py"),
    "service/keyring.py": ("test_keyring.py",),
    "service/scopes.py": ("test_scopes.py", "routes/test_authentication.py", "test_problems.py"),
    "service/rates.py": ("test_rates.py",),
    "service/limits.py": ("test_limits.py",),
    "service/admission.py": ("test_admission.py",),
    "service/core/keys.py": ("core/test_keys.py", "test_keyring.py"),
    "service/core/quotas.py": ("core/test_quotas.py",),
    "service/core/storage.py": ("core/test_storage.py",),
    "service/core/jobs.py": ("core/test_jobs.py",),
}
CAUGHT = ("killed", "timeout")  # mutmut's words for what came of a mutant


def make_tree(folder: Path, file: str) -> None:
    """What mutmut needs, where it may write."""
    for name in ("models", "trainer", "service", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    tests = [f"tests/service/{name}" for name in GUARDS[file]]
    (folder / "pyproject.toml").write_text(f"""{(ROOT / "pyproject.toml").read_text()}
[tool.mutmut]
source_paths = ["service"]
only_mutate = [{json.dumps(file)}]
also_copy = ["models", "trainer"]
pytest_add_cli_args_test_selection = {json.dumps(tests)}
pytest_add_cli_args = ["-p", "no:cacheprovider", "--durations=0"]
process_isolation = "forkserver"  # what the tests leave in a process, threads among it, doesn't survive a fork
use_git_change_detection = false
track_dependencies = false
timeout_constant = 10.0
timeout_multiplier = 3.0
""")


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


def try_mutants(file: str, options: argparse.Namespace, environment: Mapping[str, str]) -> dict[str, Any]:
    """Run the tests for the mutants of a file, or for a sample of them; what came of it."""
    with tempfile.TemporaryDirectory(prefix="simclr-mutants-") as name:
        tree = Path(name)
        make_tree(tree, file)
        made = mutants_of(tree, file)
        chosen = made
        if options.sample is not None and options.sample < len(made):
            chosen = random.Random(f"{options.seed} {file}").sample(made, options.sample)  # noqa: S311  # no secret
        outcomes = _outcomes(tree, environment, options.children, file, chosen)
        slow = [name for name, outcome in outcomes.items() if outcome == "timeout"]
        if slow:  # through others that use the machine, perhaps
            outcomes |= _outcomes(tree, environment, options.children, file, slow)
    survivors = sorted(name for name, outcome in outcomes.items() if outcome not in CAUGHT)
    counts = Counter(outcomes.values())
    row = score(len(made), len(chosen), sum(counts[word] for word in CAUGHT))
    return {**row, "seed": options.seed, "outcomes": dict(counts), "survivors": survivors}


def mutants_of(tree: Path, file: str) -> list[str]:
    """The names of the mutants that mutmut makes of a file."""
    with chdir(tree):  # where it looks for its settings
        mutated = mutate_file_contents(file, Path(file).read_text())
    return [get_mutant_name(Path(file), name) for name in mutated.mutant_names]


def _outcomes(
    tree: Path, environment: Mapping[str, str], num_children: int, file: str, names: Sequence[str]
) -> dict[str, str]:
    """What came of each of these mutants, in mutmut's words."""
    environment = {**os.environ, **environment, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(num_children), *names]
    if subprocess.run(command, cwd=tree, env=environment, stdout=sys.stderr, check=False).returncode:
        sys.exit("mutmut failed; what it printed says why")
    codes: dict[str, int | None] = json.loads((tree / f"mutants/{file}.meta").read_text())["exit_code_by_key"]
    return {name: status_by_exit_code[codes[name]] for name in names}


def score(num_mutants: int, num_tried: int, num_caught: int) -> dict[str, Any]:
    """Of the mutants that were tried, how many were caught."""
    share = round(num_caught / num_tried, 3)
    return {"mutants": num_mutants, "tried": num_tried, "caught": num_caught, "score": share}


def print_table(rows: Mapping[str, Mapping[str, Any]]) -> None:
    """For people."""
    print(f"{'file':32} {'mutants':>8} {'tried':>6} {'caught':>7} {'score':>6}")
    for name, row in rows.items():
        print(f"{name:32} {row['mutants']:8} {row['tried']:6} {row['caught']:7} {row['score']:6.0%}")


def report(tried: Mapping[str, Mapping[str, Any]], before: Mapping[str, Any]) -> dict[str, Any]:
    """The line of JSON, as a dict: what was tried now, and of what was tried before the other files."""
    known = {**before.get("files", {}), **tried}
    files = {file: known[file] for file in GUARDS if file in known}
    whole = score(*(sum(row[key] for row in files.values()) for key in ("mutants", "tried", "caught")))
    return {**before, "processor": device_name(), **versions("mutmut"), "all": whole, "files": files}


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the mutants of each file, try them or a sample of them, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, help="mutants to try of each file; default: all")
    parser.add_argument("--seed", type=int, default=0, help="of the samples")
    parser.add_argument("--only", nargs="+", choices=GUARDS, default=GUARDS, metavar="FILE", help="only these files")
    parser.add_argument("--children", type=int, default=num_cores(), help="mutants that are tried at once")
    parser.add_argument("--output", type=Path, help="a file for the JSON")
    options = parser.parse_args(arguments)
    tried: dict[str, dict[str, Any]] = {}
    with servers() as environment:
        for file in options.only:
            tried[file] = try_mutants(file, options, environment)
            before = json.loads(options.output.read_text()) if options.output and options.output.exists() else {}
            found = report(tried, before)
            if options.output:
                options.output.write_text(json.dumps(found, indent=1) + "\n")
    print_table({**tried, "all": found["all"]})
    print(json.dumps(found))
    return 0 if min(row["score"] for row in tried.values()) >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
