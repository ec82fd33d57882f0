"""The OpenAPI document: FastAPI's, with what FastAPI can't know."""

import json
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from service.bodies import JSON_TYPE, inlined, present
from service.core.keys import SCOPES
from service.filter_query import FILTER
from service.problems import FieldError, Problem
from service.refusals import REFUSALS, implied
from service.scopes import Operation, Operations

# What operations were asked, and answered, on a service with one of everything; long lists are cut.
EXAMPLES: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("examples.json").read_text())
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
        components = made["components"]
        components["securitySchemes"] = SCHEMES
        components["responses"] = {refusal.name: refusal.response() for refusal in REFUSALS.values()}
        for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own form of 422
            components["schemas"].pop(name, None)
        for model in (FieldError, Problem):
            schema = model.model_json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
            schema.pop("$defs", None)
            components["schemas"][model.__name__] = schema
        for operation in operations.all:
            for method in operation.methods:
                _complete(made["paths"][operation.path][method.lower()], operation)
    assert app.openapi_schema is not None
    return app.openapi_schema


def _complete(said: dict[str, Any], operation: Operation) -> None:
    """Add which key an operation needs, and how it may refuse."""
    for parameter in said.get("parameters", []):
        _correct(parameter)
    example = EXAMPLES.get(operation.name, {})
    if "request" in example:
        said["requestBody"]["content"][JSON_TYPE]["example"] = example["request"]
    if "response" in example:
        (content,) = (
            said["responses"][status]["content"] for status in ("200", "201", "202") if status in said["responses"]
        )
        content[JSON_TYPE]["example"] = example["response"]
    said["security"] = [{SCHEME: [operation.scope]}]
    said["x-scope"] = operation.scope
    declared = {int(status) for status in said["responses"] if int(status) in REFUSALS}
    for status in sorted(declared | implied(operation, said)):
        said["responses"][str(status)] = {"$ref": f"#/components/responses/{REFUSALS[status].name}"}


def _correct(parameter: dict[str, Any]) -> None:
    """No parameter is null: it is left out. One that is JSON text is documented by what it means."""
    schema = present(parameter["schema"])
    if schema.get("contentMediaType") == JSON_TYPE:
        del parameter["schema"]
        parameter["content"] = {JSON_TYPE: {"schema": inlined(FILTER.json_schema())}}
    else:
        parameter["schema"] = schema
