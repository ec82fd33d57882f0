"""Models, and the aliases that serve them."""

from pathlib import Path
from typing import Any

from service.client.call import Call, Listing, read_json, read_nothing
from service.client.results import JSON, Model


def get_model(model_id: str) -> Call[Model]:
    """A model: its recipe, layers, files and what probes measured."""
    return Call("GET", f"/v1/models/{model_id}", read_json)


def delete_model(model_id: str) -> Call[None]:
    """Delete a model that no alias serves and no unfinished job needs."""
    return Call("DELETE", f"/v1/models/{model_id}", read_nothing)


def download_model_file(model_id: str, name: str, path: Path) -> Call[None]:
    """Write a file of a model, such as model.onnx, to `path`."""
    return Call("GET", f"/v1/models/{model_id}/files/{name}", read_nothing, file=path)


def set_alias(alias: str, model_id: str) -> Call[JSON]:
    """Have the alias serve a model; `production` serves when no model is named."""
    return Call("PUT", f"/v1/aliases/{alias}", read_json, {"json": {"model_id": model_id}})


def roll_back_alias(alias: str) -> Call[JSON]:
    """Have the alias serve the model that it served before its last change. Never sent twice."""
    return Call("POST", f"/v1/aliases/{alias}/rollback", read_json)


def list_models(**query: Any) -> Listing:
    """All models, newest first."""
    return Listing("/v1/models", query)


def list_aliases(**query: Any) -> Listing:
    """All aliases, by name."""
    return Listing("/v1/aliases", query)
