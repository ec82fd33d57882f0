"""A probe's progress, told to the run folder at most once a second."""

import time

from trainer.run import RunFolder

REPORT_SECONDS = 1.0


class StageProgress:
    """How far a stage of known length is; its start and its end are always told."""

    def __init__(self, run: RunFolder, stage: str, steps: int) -> None:
        self.run = run
        self.stage = stage
        self.steps = steps
        self.step = 0
        self._tell()

    def advance(self, num_steps: int = 1) -> None:
        """`num_steps` more are done."""
        self.step += num_steps
        if self.step >= self.steps or time.monotonic() - self._told_at >= REPORT_SECONDS:
            self._tell()

    def finish(self) -> None:
        """The stage ends here, whatever was left of it."""
        if self.step < self.steps:
            self.advance(self.steps - self.step)

    def _tell(self) -> None:
        self.run.emit("stage", stage=self.stage, step=self.step, steps=self.steps)
        self._told_at = time.monotonic()
