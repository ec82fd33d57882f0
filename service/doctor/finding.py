"""What a check found."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Finding:
    """A line of the doctor's: what was looked at, how it is, and what to do unless it is ok."""

    name: str
    status: Status
    detail: str
    advice: str = ""


def ok(name: str, detail: str) -> Finding:
    """Nothing to do."""
    return Finding(name, "ok", detail)


def warning(name: str, detail: str, advice: str) -> Finding:
    """The service runs, but less well than it could."""
    return Finding(name, "warning", detail, advice)


def failed(name: str, detail: str, advice: str) -> Finding:
    """The service, or training, can't run so."""
    return Finding(name, "failed", detail, advice)
