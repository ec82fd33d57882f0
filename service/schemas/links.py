"""Parts of the OpenAPI document that routes share: what a new thing's response says, and where it leads."""

from typing import Any


def links_to(parameter: str, *operations: str, source: str = "$response.body#/id") -> dict[str, Any]:
    """Links to operations whose path parameter is found in the response."""
    return {operation: {"operationId": operation, "parameters": {parameter: source}} for operation in operations}


def created(status: int, links: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """The documentation of a response that tells of a new thing."""
    location = {"description": "Path of the new thing.", "required": True, "schema": {"type": "string"}}
    return {status: {"headers": {"Location": location}, "links": links}}


def listed(parameter: str, *operations: str, name: str = "id") -> dict[int | str, dict[str, Any]]:
    """The documentation of a list: where its first item leads."""
    return {200: {"links": links_to(parameter, *operations, source=f"$response.body#/items/0/{name}")}}
