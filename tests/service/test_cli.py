import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

import service.migrations.versions
from tests.stack import environment

VERSIONS = Path(service.migrations.versions.__file__).parent
COMMAND = [sys.executable, "-P", "-m", "service.cli"]


def simclr(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would, with `settings` and no others."""
    return subprocess.run(
        [*COMMAND, *arguments], env=environment(**settings), capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("command", ["api", "worker"])
def test_a_single_part_needs_servers(command: str) -> None:
    """One line says which setting is missing, and what needs none."""
    ended = simclr(command, redis_url="redis://127.0.0.1:1/0")
    assert ended.returncode == 1
    assert ended.stderr == "simclr: set SIMCLR_DATABASE_URL, or run the whole stack with `simclr up`\n"


def test_a_wrong_setting_is_named_in_one_line() -> None:
    """The variable, what is wrong with it; no traceback."""
    ended = simclr("migrate", num_cpu_slots="many", lease_seconds="1")
    assert ended.returncode == 1
    assert ended.stderr == (
        "simclr: SIMCLR_NUM_CPU_SLOTS: Input should be a valid integer, unable to parse string as an integer;"
        " SIMCLR_LEASE_SECONDS: Input should be greater than or equal to 2\n"
    )


def test_the_api_alone_does_not_let_the_network_in_by_accident() -> None:
    """The guard of `simclr up` holds for `simclr api`."""
    ended = simclr("api", "--host", "0.0.0.0", auth="off", database_url="postgresql://x/y", redis_url="redis://x")
    assert ended.returncode == 1
    assert ended.stderr.startswith("simclr: --host 0.0.0.0 lets other machines in")
    assert ended.stderr.count("\n") == 1


def test_migrate_brings_a_database_to_this_release(create_database: Callable[[], str]) -> None:
    """An operator of an external database runs it before the parts."""
    url = create_database()
    assert simclr("migrate", database_url=url).returncode == 0
    with psycopg.connect(url) as connection:
        (version,) = connection.execute("select version_num from alembic_version").fetchall()
    assert version == (max(path.name for path in VERSIONS.glob("0*.py"))[:4],)
