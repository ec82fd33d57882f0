"""A running `simclr up`, as a user starts it."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from service.process import last_lines
from tests.waiting import wait_until

COMMAND = [sys.executable, "-P", "-m", "service.cli", "up"]

PARTS = {  # what tells their commands apart
    "PostgreSQL": ("bin/postgres -D",),
    "Valkey": ("valkey-server",),
    "worker": ("trainer.worker", "[celeryd: simclr@"),  # Celery's title for it where setproctitle is installed
    "API": ("service.cli api",),
}


@dataclass(frozen=True)
class Stack:
    """Where the service answers, what it keeps, and its supervising process."""

    base_url: str
    data_dir: Path
    process: subprocess.Popen[bytes]

    @property
    def outputs(self) -> list[Path]:
        """What the supervisor printed, what it logged, and the logs of its children."""
        printed = [self.data_dir.parent / name for name in ("stdout", "stderr")]
        return [*printed, *sorted((self.data_dir / "logs").glob("*.log"))]

    @property
    def printed(self) -> str:
        """The supervisor's standard output."""
        return self.outputs[0].read_text()

    def tails(self) -> str:
        """The end of each log."""
        return "\n".join(f"--- {path.name}\n{last_lines(path, 30)}" for path in self.outputs)

    def pids(self) -> dict[str, int]:
        """The running parts and their processes."""
        children = [p for p in psutil.process_iter(["ppid", "cmdline"]) if p.info["ppid"] == self.process.pid]
        commands = {p.pid: " ".join(p.info["cmdline"] or ()) for p in children}  # none: it has ended
        return {
            name: pid
            for name, texts in PARTS.items()
            for pid, command in commands.items()
            if any(text in command for text in texts)
        }

    def is_ready(self) -> bool:
        """Whether /readyz answers 200."""
        try:
            return httpx.get(f"{self.base_url}/readyz", timeout=5).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def environment(**settings: str) -> dict[str, str]:
    """This process's environment with these settings and no others."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("SIMCLR_")}
    return {**others, **{f"SIMCLR_{name.upper()}": value for name, value in settings.items()}}


@contextmanager
def running_stack(folder: Path, **settings: str) -> Iterator[Stack]:
    """`simclr up` on `folder`/data and a free port, ready; stopped when the block ends."""
    port = free_port()
    command = [*COMMAND, "--data-dir", str(folder / "data"), "--port", str(port)]
    with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
        # In `folder`, where no .env is read.
        process = subprocess.Popen(command, stdout=stdout, stderr=stderr, env=environment(**settings), cwd=folder)
    stack = Stack(f"http://127.0.0.1:{port}", folder / "data", process)
    try:
        wait_until(lambda: "ready at" in stack.printed or process.poll() is not None, timeout_seconds=60)
        assert process.poll() is None, "it ended"
        yield stack
    except AssertionError as error:
        error.add_note(stack.tails())
        raise
    finally:
        process.terminate()
        process.wait(timeout=90)
