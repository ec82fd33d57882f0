"""What people do wrong most, told in one line each with what to do."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import typer

from service.client import ApiError, JobFailed
from service.commands import output
from service.process import StartFailed
from service.stages import StageFailed

HINTS = {
    "no_production_model": "`simclr models promote ID` has a model serve (`simclr models list`), and `simclr train DIR`"
    " makes one",
    "unauthenticated": "set SIMCLR_API_KEY to a key of this service",
    "unsupported_format": "convert it with another program",
    "storage_full": "the service's disk is full: free space in its data folder",
    "dataset_not_ready": "`simclr datasets show ID` says how far it is",
}


@contextmanager
def failures_told(url: str) -> Iterator[None]:
    """What the user can mend ends the command with status 1 and a message, without a traceback."""
    try:
        yield
    except ApiError as error:
        hint = HINTS.get(error.code)
        _fail(f"{error}: {hint}" if hint else str(error), error)
    except (JobFailed, StageFailed, StartFailed, ValueError) as error:
        _fail(str(error), error)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        _fail(f"no service answers at {url} ({error}): start one with `simclr up`, or name it with --url", error)
    except OSError as error:
        full = ": free some space, or choose a folder on another disk" if error.errno == errno.ENOSPC else ""
        _fail(f"{error.filename or 'this machine'}: {error.strerror}{full}", error)


def _fail(message: str, error: Exception) -> None:
    output.console.print(message, style="red", markup=False, soft_wrap=True)
    raise typer.Exit(1) from error
