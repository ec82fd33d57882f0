"""The API keeps its OpenAPI document's word, as far as seconds of fuzzing tell; `make contract` goes on for minutes."""

from collections.abc import Callable
from pathlib import Path

from tests.contract.fuzzing import fuzz
from tests.contract.world import running_world


def test_the_contract_holds(create_database: Callable[[], str], redis_url: str, tmp_path: Path) -> None:
    """Every check of schemathesis on requests of every operation, and on chains of them along its links."""
    with running_world(tmp_path, create_database(), redis_url) as url:
        options = ("--max-examples", "2", "--seed", "1", "--generation-deterministic", "--no-shrink")
        done = fuzz(url, tmp_path, *options, phases="examples,fuzzing,stateful", quiet=True)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
