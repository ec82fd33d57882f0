"""Ids as arguments: one of another kind is refused before it is sent."""

from collections.abc import Callable
from typing import Annotated

import typer

SHOWN_BY = {
    "ds": "simclr datasets show",
    "job": "simclr jobs show",
    "mdl": "simclr models show",
    "col": "simclr images list --collection",
}


def id_of(prefix: str) -> Callable[[str | None], str | None]:
    """A callback of an argument: refuses the id of another kind of thing, and names the command for that."""

    def check(given: str | None) -> str | None:
        kind = (given or "").partition("_")[0]
        if kind in SHOWN_BY and kind != prefix:
            raise typer.BadParameter(
                f"an id that begins with {prefix}_ is wanted; `{SHOWN_BY[kind]} {given}` is for it"
            )
        return given

    return check


DatasetId = Annotated[str, typer.Argument(help="Id, ds_...", callback=id_of("ds"))]
JobId = Annotated[str, typer.Argument(help="Id, job_...", callback=id_of("job"))]
ModelId = Annotated[str, typer.Argument(help="Id, mdl_...", callback=id_of("mdl"))]
