"""All checks, in the order in which they are read."""

from collections.abc import Iterator
from pathlib import Path

from service.doctor import machine, stack, training
from service.doctor.finding import Finding


def check_all(data_dir: Path, port: int) -> Iterator[Finding]:
    """Each finding as soon as it is made.

    Starts the embedded servers once, which takes seconds; one in whose place the settings name another is left out.
    """
    finding, settings = stack.check_settings()
    has_own_database = bool(settings and settings.database_url)
    yield finding
    yield machine.check_python()
    yield machine.check_platform()
    if not has_own_database:
        yield machine.check_processor()
    yield machine.check_memory()
    yield machine.check_disk(data_dir)
    yield machine.check_data_dir(data_dir)
    yield stack.check_versions()
    yield stack.check_free_port(port)
    if not has_own_database:
        yield stack.check_postgres()
    if not (settings and settings.redis_url):
        yield stack.check_valkey()
    yield from training.check_training()
