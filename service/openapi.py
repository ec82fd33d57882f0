"""The OpenAPI document: FastAPI's, with what FastAPI can't know."""

from typing import Any

from fastapi import FastAPI

from service.problems import FieldError, Problem

TAGS = [
    {"name": "datasets", "description": "Images to train on."},
    {"name": "jobs", "description": "Pretraining, probes and indexing."},
    {"name": "models", "description": "Exported encoders, and the aliases that serve them."},
    {"name": "images", "description": "Images to embed and to search in."},
    {"name": "search", "description": "Similar images."},
    {"name": "system", "description": "The service itself."},
]


def document(app: FastAPI) -> dict[str, Any]:
    """The document of an application, made once."""
    if app.openapi_schema is None:
        made = FastAPI.openapi(app)
        schemas = made["components"]["schemas"]
        for model in (FieldError, Problem):
            schemas[model.__name__] = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas[model.__name__].pop("$defs", None)
    assert app.openapi_schema is not None
    return app.openapi_schema
