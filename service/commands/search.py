"""`simclr search` and `simclr classify`: what one image is like."""

from pathlib import Path
from typing import Annotated

import typer

from service.commands.connection import LOCAL, Url, connected
from service.commands.ids import id_of
from service.commands.output import Column, show_list
from service.local_files import readable


def search(
    image: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    k: Annotated[int, typer.Option(help="Neighbours.")] = 10,
    collection: Annotated[str, typer.Option(help="Where to search.")] = "default",
    filter: Annotated[str | None, typer.Option(help="A filter of label and metadata, as JSON.")] = None,  # noqa: A002  # the option's name
    url: Url = LOCAL,
) -> None:
    """Find the images most similar to one of yours.

    Example: simclr search query.jpg --collection pets --k 5
    """
    columns = [Column("score", "score"), Column("file", "filename"), Column("label", "label"), Column("id", "id")]
    with connected(url) as client:
        form = {"collection": collection, "k": k} | ({"filter": filter} if filter else {})
        found = client.search_by_image(readable(image.name), image.read_bytes(), **form)
        rows = [{**hit, "score": f"{hit['score']:.4f}"} for hit in found]
        show_list(iter(rows), columns, k)


def classify(
    image: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    probe: Annotated[
        str,
        typer.Option(help="Id of the linear_probe or finetune job that made the classifier.", callback=id_of("job")),
    ],
    top_k: Annotated[int, typer.Option(help="Classes.")] = 5,
    url: Url = LOCAL,
) -> None:
    """Say what an image shows."""
    with connected(url) as client:
        [item] = client.classify([(readable(image.name), image.read_bytes())], probe=probe, top_k=top_k)
        rows = [{**likely, "probability": f"{likely['probability']:.4f}"} for likely in item["classes"] or []]
        show_list(iter(rows), [Column("probability", "probability"), Column("class", "name")], top_k)
