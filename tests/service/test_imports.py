"""What the API's process loads."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("package", ["torch", "trainer", "celery"])
def test_the_api_and_the_command_line_do_without(package: str) -> None:
    """Importing all of the API and of `simclr` loads no PyTorch, no trainer and no Celery, not even indirectly."""
    code = f"import sys, service.app, service.cli; sys.exit({package!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0
