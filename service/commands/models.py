"""`simclr models`."""

import typer

from service.commands.connection import LOCAL, Url, connected
from service.commands.ids import ModelId
from service.commands.output import ID_WIDTH, Column, Limit, show, show_list

app = typer.Typer(help="Exported encoders.", no_args_is_help=True)


@app.command("list")
def list_models(limit: Limit = 20, url: Url = LOCAL) -> None:
    """List the models, newest first."""
    columns = [
        Column("id", "id", ID_WIDTH),
        Column("job", "job_id", ID_WIDTH),
        Column("parity", "parity_cosine"),
        Column("made", "created_at"),
    ]
    with connected(url) as client:
        show_list(client.pages("/v1/models"), columns, limit)


@app.command("show")
def show_model(model_id: ModelId, url: Url = LOCAL) -> None:
    """Print a model as JSON."""
    with connected(url) as client:
        show(client.get(f"/v1/models/{model_id}"))


@app.command("promote")
def promote_model(model_id: ModelId, alias: str = "production", url: Url = LOCAL) -> None:
    """Have an alias serve a model; `production` serves when no model is named."""
    with connected(url) as client:
        show(client.set_alias(alias, model_id))
