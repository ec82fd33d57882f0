"""What the API's process loads."""

import subprocess
import sys


def test_the_api_and_the_command_line_do_without() -> None:
    """Importing all of the API and of `simclr` loads no PyTorch, trainer or Celery, nothing that draws or traces."""
    kept_out = {"torch", "trainer", "celery", "matplotlib", "jinja2", "opentelemetry.exporter"}
    code = f"import sys, service.app, service.cli; print(sorted({kept_out} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-P", "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
