"""From the process's events.jsonl to rows: in order, each once."""

import json
import time
from pathlib import Path
from typing import Any

Event = tuple[str, dict[str, Any]]
MAX_EVENTS = 500  # in one transaction


class EventTail:
    """Reads the whole lines that a process appends to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.num_relayed = 0
        self._position = 0
        self._pending: list[Event] = []
        self._pace = Pace()

    def pending(self) -> list[Event]:
        """The next events that aren't relayed yet, at most MAX_EVENTS."""
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self._position)
                whole, newline, _ = file.read().rpartition(b"\n")
            self._position += len(whole) + len(newline)
            self._pending += [self._event(line) for line in whole.splitlines()]
        return self._pending[:MAX_EVENTS]

    def relayed(self, number: int) -> None:
        """Forget the first `number` pending events: they are stored."""
        del self._pending[:number]
        self.num_relayed += number

    def _event(self, line: bytes) -> Event:
        data = json.loads(line)
        type_ = data.pop("type")
        if "step" in data and "steps" in data:
            data.setdefault("eta_seconds", self._pace.eta_seconds(data))
        return type_, data


class Pace:
    """Steps a second since the stage's first event."""

    def __init__(self) -> None:
        self._stage: object = None
        self._first: tuple[int, float] | None = None

    def eta_seconds(self, data: dict[str, Any]) -> float | None:
        """Seconds to the last step at the pace so far, or None while that is unknown."""
        now, step, steps = time.monotonic(), int(data["step"]), int(data["steps"])
        stage = data.get("stage", self._stage)
        if self._first is None or stage != self._stage:
            self._stage, self._first = stage, (step, now)
        first_step, first_at = self._first
        if step <= first_step:
            return None
        return round((steps - step) * (now - first_at) / (step - first_step), 1)


def progress_of(events: list[Event]) -> dict[str, Any] | None:
    """The newest progress among events, or None."""
    for _, data in reversed(events):
        if "step" in data and "steps" in data:
            return data
    return None
