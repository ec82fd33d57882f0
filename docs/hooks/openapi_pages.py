"""The API's operations and schemas, from its OpenAPI document."""

from functools import cache
from typing import Any

from schema_table import SchemaTable, describe

from service.app import create_app
from service.core.settings import Settings

NOWHERE = "postgresql://nobody@localhost/none"  # nothing connects
INTRODUCTION = """# API

Every operation, from the service's own OpenAPI document: `/openapi.json` of a running service has it, `/docs` shows it.
`scope` is what a key has to have where [keys](../security.md) are required. Errors are `application/problem+json` with
a stable `code`; lists are pages, with `next` as the `cursor` of the following one.
"""


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document."""
    return create_app(Settings(database_url=NOWHERE)).openapi()


@cache
def _tables() -> SchemaTable:
    return SchemaTable(document()["components"]["schemas"], page="schemas.md")


def operations() -> str:
    """A section a tag, with its operations."""
    parts = [INTRODUCTION]
    for tag in document()["tags"]:
        parts.append(f"## {tag['name'].capitalize()}\n\n{tag['description']}\n")
        for path, methods in document()["paths"].items():
            of_tag = [(method, one) for method, one in methods.items() if tag["name"] in one.get("tags", ())]
            parts += [_operation(path, method, one) for method, one in of_tag]
    return "\n".join(parts)


def schemas() -> str:
    """A section a schema."""
    parts = ["# Schemas\n\nWhat requests and answers of the [API](api.md) are made of.\n"]
    for name, schema in sorted(document()["components"]["schemas"].items()):
        body = _tables().fields(schema) if "properties" in schema else f"{_tables().value(schema)}\n"
        parts.append(f"## {name} {{ #{name.lower()} }}\n\n{describe(schema)}\n\n{body}")
    return "\n".join(parts)


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    parts = [f"### `{method.upper()} {path}` {{ #{operation['operationId']} }}\n", f"{operation['description']}\n"]
    if scope := operation.get("x-scope"):
        parts.append(f"Scope: `{scope}`.\n")
    if parameters := operation.get("parameters"):
        parts.append(_parameters(parameters))
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(_body(media_type, content["schema"]))
    parts.append(_answers(operation["responses"]))
    return "\n".join(parts)


def _component(reference: str) -> dict[str, Any]:
    """What a `$ref` within the document means."""
    node: dict[str, Any] = document()
    for step in reference.removeprefix("#/").split("/"):
        node = node[step]
    return node


def _parameters(parameters: list[dict[str, Any]]) -> str:
    rows = ["| parameter | in | value | |", "|---|---|---|---|"]
    for one in parameters:
        (described,) = one.get("content", {"": one}).values()  # JSON in a query is content
        value = _tables().value(described["schema"]).replace("|", "\\|")
        needed = " (required)" if one.get("required") and one["in"] != "path" else ""
        rows.append(f"| `{one['name']}` | {one['in']}{needed} | {value} | {describe(one)} |")
    return "\n".join(rows) + "\n"


def _body(media_type: str, schema: dict[str, Any]) -> str:
    name = schema.get("$ref", "").rsplit("/", 1)[-1]
    if media_type == "multipart/form-data" and name:
        return f"Body, `{media_type}`:\n\n{_tables().fields(document()['components']['schemas'][name])}"
    return f"Body, `{media_type}`: {_tables().value(schema)}.\n"


def _answers(responses: dict[str, Any]) -> str:
    lines = []
    for status, named in responses.items():
        response = _component(named["$ref"]) if "$ref" in named else named
        content = response.get("content", {})
        kinds = [f"`{media_type}`: {_tables().value(one.get('schema', {}))}" for media_type, one in content.items()]
        lines.append(f"- **{status}** {response['description']}" + (f". {'; '.join(kinds)}" if kinds else ""))
    return "\n".join(lines) + "\n"
