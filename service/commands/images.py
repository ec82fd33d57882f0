"""`simclr images`."""

from pathlib import Path
from typing import Annotated

import typer

from service.commands import output
from service.commands.connection import LOCAL, Url, connected
from service.commands.output import Column, Limit, show, show_list
from service.local_files import batches, nothing_found, read_images

app = typer.Typer(help="Images to embed and to search in.", no_args_is_help=True)


@app.command("add")
def add_images(
    source: Annotated[Path, typer.Argument(exists=True, help="Image, folder, zip or tar; folders are labels.")],
    collection: Annotated[str, typer.Option(help="Made on first use.")] = "default",
    url: Url = LOCAL,
) -> None:
    """Upload images into a collection.

    Example: simclr images add photos/ --collection pets
    """
    with connected(url) as client:
        num_added, failed = 0, []
        for part in batches(read_images(source)):
            files = [(image.path.name, image.content) for image in part]
            items = client.add_images(files, collection=collection, labels=[image.label for image in part])
            failed += [item for item in items if item["status"] == "failed"]
            num_added += len(items)
            output.console.print(f"{num_added} images", end="\r")
        if not num_added:
            raise nothing_found(source)
        output.console.print(f"{num_added - len(failed)} images in {collection!r}, {len(failed)} refused")
        for item in failed:
            output.console.print(f"  {item['filename']}: {(item['error'] or {}).get('detail')}", markup=False)


@app.command("list")
def list_images(
    collection: str = "default",
    filter: Annotated[str | None, typer.Option(help="A filter of label and metadata, as JSON.")] = None,  # noqa: A002  # the option's name
    limit: Limit = 20,
    url: Url = LOCAL,
) -> None:
    """List the images of a collection."""
    columns = [Column("id", "id"), Column("file", "filename"), Column("label", "label")]
    with connected(url) as client:
        show_list(client.pages("/v1/images", collection=collection, filter=filter), columns, limit)


@app.command("export")
def export_images(
    file: Annotated[Path, typer.Argument(help="Where to write: a .parquet or .arrow file.")],
    collection: str = "default",
    layer: Annotated[str | None, typer.Option(help="With the vectors of this layer, such as h.")] = None,
    url: Url = LOCAL,
) -> None:
    """Write what a collection says of its images to a file."""
    with connected(url) as client:
        if file.suffix not in {".parquet", ".arrow"}:
            raise ValueError(f"{file}: it can be written as .parquet or .arrow")
        query = {"format": file.suffix[1:]} | ({"layer": layer} if layer else {})
        client.export_collection(collection, file, **query)
        output.console.print(f"wrote {file}", markup=False, soft_wrap=True)


@app.command("import")
def import_images(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    collection: str = "default",
    url: Url = LOCAL,
) -> None:
    """Take such a file into a collection; its images must be stored already."""
    with connected(url) as client:
        show(client.import_collection(collection, file))
