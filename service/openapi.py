"""The OpenAPI document: FastAPI's, with what FastAPI can't know."""

from typing import Any

from fastapi import FastAPI

from service.core.keys import SCOPES
from service.problems import FieldError, Problem
from service.scopes import Operations

TAGS = [
    {"name": "datasets", "description": "Images to train on."},
    {"name": "jobs", "description": "Pretraining, probes and indexing."},
    {"name": "models", "description": "Exported encoders, and the aliases that serve them."},
    {"name": "images", "description": "Images to embed and to search in."},
    {"name": "search", "description": "Similar images."},
    {"name": "keys", "description": "API keys, and what was done with them."},
    {"name": "system", "description": "The service itself."},
]
SCHEME = "bearer"
SCHEMES = {
    SCHEME: {
        "type": "http",
        "scheme": "bearer",
        "description": f"A key, sk_ and 43 characters. Its scopes are some of {', '.join(SCOPES)}; an operation's"
        " `x-scope` is the one that it needs, and `admin` includes all.",
    }
}


def document(app: FastAPI, operations: Operations) -> dict[str, Any]:
    """The document of an application, made once."""
    if app.openapi_schema is None:
        made = FastAPI.openapi(app)
        schemas = made["components"]["schemas"]
        for model in (FieldError, Problem):
            schemas[model.__name__] = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas[model.__name__].pop("$defs", None)
        made["components"]["securitySchemes"] = SCHEMES
        for operation in operations.all:
            for method in operation.methods:
                needed = {"security": [{SCHEME: [operation.scope]}], "x-scope": operation.scope}
                made["paths"][operation.path][method.lower()] |= needed
    assert app.openapi_schema is not None
    return app.openapi_schema
