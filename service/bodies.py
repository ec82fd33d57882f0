"""Bodies that FastAPI doesn't read itself: JSON or a form, as the client likes, and forms with JSON in their fields.

A body becomes one of the operation's pydantic models, and the OpenAPI document shows both.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar, get_origin

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.datastructures import FormData

from service.core.errors import BadRequest, UnsupportedMedia

JSON_TYPE, FORM_TYPE = "application/json", "multipart/form-data"

Json = TypeVar("Json", bound=BaseModel)
Form = TypeVar("Form", bound=BaseModel)


@asynccontextmanager
async def read_body(request: Request, json: type[Json], form: type[Form]) -> AsyncIterator[Json | Form]:
    """The body as one of the two models; a form's files are open in the block.

    Raises BadRequest, UnsupportedMedia or RequestValidationError.
    """
    content_type = _content_type(request)
    if content_type == JSON_TYPE:
        yield _validated_json(await request.body(), json)
    elif content_type == FORM_TYPE:
        async with read_form(request, form) as body:
            yield body
    else:
        raise UnsupportedMedia(f"Content-Type: {JSON_TYPE} or {FORM_TYPE}, not {content_type or 'none'}")


@asynccontextmanager
async def read_form(request: Request, form: type[Form]) -> AsyncIterator[Form]:
    """A form as its model; its files are open in the block. Raises UnsupportedMedia or RequestValidationError."""
    if (content_type := _content_type(request)) != FORM_TYPE:
        raise UnsupportedMedia(f"Content-Type: {FORM_TYPE}, not {content_type or 'none'}")
    async with request.form() as data:
        fields = _fields(data, form)
        try:
            body = form.model_validate(fields)
        except ValidationError as error:
            raise _invalid(error, fields) from error
        yield body


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _validated_json(content: bytes, model: type[Json]) -> Json:
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            raise BadRequest(f"the body is not JSON: {first['ctx']['error']}") from error
        raise _invalid(error, from_json(content)) from error


def _invalid(error: ValidationError, body: Any) -> RequestValidationError:
    located = [{**entry, "loc": ("body", *entry["loc"])} for entry in error.errors(include_url=False)]
    for entry in located:
        if entry["type"] == "json_invalid":  # in a field; FastAPI's own says so of the whole body
            entry["type"] = "json_field"
    return RequestValidationError(located, body=body)


def _fields(data: FormData, form: type[BaseModel]) -> dict[str, Any]:
    """A form's fields by name; a list where the model has one."""
    return {name: data.getlist(name) if _is_list(form, name) else data[name] for name in data}


def _is_list(form: type[BaseModel], name: str) -> bool:
    return name in form.model_fields and get_origin(form.model_fields[name].annotation) is list


def document(form: type[BaseModel], json: type[BaseModel] | None = None) -> dict[str, Any]:
    """What the route's `openapi_extra` says of its body."""
    models = {FORM_TYPE: form} | ({JSON_TYPE: json} if json else {})
    content = {media_type: {"schema": _inlined(model.model_json_schema())} for media_type, model in models.items()}
    return {"requestBody": {"required": True, "content": content}}


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON schema with its definitions written where they are used: they have no place in the document."""
    definitions = schema.pop("$defs", {})

    def inline(node: Any) -> Any:
        if isinstance(node, list):
            return [inline(part) for part in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return inline(definitions[node["$ref"].rpartition("/")[2]])
        return {key: inline(value) for key, value in node.items()}

    inlined: dict[str, Any] = inline(schema)
    return inlined
