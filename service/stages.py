"""Stages of a long command, each with its progress bar, or a line where there is no terminal."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from service.client import Job

Update = Callable[[float, float, str], None]  # done, total, detail


class StageFailed(Exception):
    """A stage did not do what it must."""


def progress_on(console: Console) -> Progress:
    """The bars of the stages; without a terminal there are none."""
    columns = (TextColumn("{task.description:<36}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    detail = TextColumn("{task.fields[detail]}")
    return Progress(*columns, detail, console=console, disable=not console.is_terminal)


@dataclass
class Stages:
    """Shows a progress bar a stage, or a line at its end where there is no terminal, and notes how long each took."""

    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, text: str) -> Iterator[Update]:
        """Run a stage; yields the function that moves its bar."""
        bar = self.progress.add_task(text, total=None, detail="")
        started = time.monotonic()

        def update(done: float, total: float, detail: str) -> None:
            self.progress.update(bar, completed=done, total=total, detail=detail)

        yield update
        elapsed = time.monotonic() - started
        self.seconds[name] = round(self.seconds.get(name, 0) + elapsed, 1)
        self.progress.update(bar, completed=1, total=1)
        if self.progress.disable:
            self.progress.console.print(f"{text}: {elapsed:.1f} s")


def job_progress(update: Update) -> Callable[[Job], None]:
    """Moves a stage's bar as its job goes on."""

    def show(job: Job) -> None:
        progress = job["progress"] or {}
        if not progress.get("steps"):
            update(0, 1, progress.get("stage") or job["status"])
            return
        parts = [progress.get("stage") or f"epoch {progress.get('epoch', 0):.1f}"]
        if progress.get("loss") is not None:
            parts.append(f"loss {progress['loss']:.3f}")
        if progress.get("images_per_second"):
            parts.append(f"{progress['images_per_second']:,.0f} images/s")
        update(progress["step"], progress["steps"], "  ".join(parts))

    return show
