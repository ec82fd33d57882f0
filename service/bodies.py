"""Bodies that FastAPI doesn't read itself: JSON or a form, as the client likes, and forms with JSON in their fields.

A body becomes one of the operation's pydantic models, and the OpenAPI document shows both.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar, get_origin

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser

from service.content_types import content_type
from service.core.errors import BadRequest

JSON_TYPE, FORM_TYPE = "application/json", "multipart/form-data"
MAX_FILES = 10_000  # of a form: as many as a setting may allow (max_images_per_request)

Json = TypeVar("Json", bound=BaseModel)
Form = TypeVar("Form", bound=BaseModel)


@asynccontextmanager
async def read_body(request: Request, json: type[Json], form: type[Form]) -> AsyncIterator[Json | Form]:
    """The body as one of the two models; a form's files are open in the block.

    Raises BadRequest or RequestValidationError.
    """
    if content_type(request.headers) == JSON_TYPE:
        yield _validated_json(await request.body(), json)
    else:
        async with read_form(request, form) as body:
            yield body


@asynccontextmanager
async def read_form(request: Request, form: type[Form]) -> AsyncIterator[Form]:
    """A form as its model; its files are open in the block. Raises BadRequest or RequestValidationError."""
    async with _parsed(request) as data:
        fields = _fields(data, form)
        try:
            body = form.model_validate(fields)
        except ValidationError as error:
            raise _invalid(error, fields) from error
        yield body


class _Parser(MultiPartParser):
    """Starlette's, which doesn't mind a form that ends in the middle of a file, but leaves the file out."""

    has_ended = False

    def on_end(self) -> None:
        self.has_ended = True

    async def parse(self) -> FormData:
        data = await super().parse()
        if not self.has_ended:
            for file in self._files_to_close_on_error:
                file.close()
            raise MultiPartException("It has no end.")
        return data


@asynccontextmanager
async def _parsed(request: Request) -> AsyncIterator[FormData]:
    """The parts of a form. Raises BadRequest."""
    try:
        async with aclosing(request.stream()) as stream:
            data = await _Parser(request.headers, stream, max_files=MAX_FILES).parse()
    except MultiPartException as error:
        raise BadRequest(f"the form can't be read: {error.message}") from error
    except UnicodeError as error:  # its texts are decoded as the client's `charset` says, by any codec of Python's
        raise BadRequest(f"the form's texts can't be read: {error}") from error
    try:
        yield data
    finally:
        await data.close()


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
    content = {FORM_TYPE: _of_form(form)} | ({JSON_TYPE: {"schema": inlined(json.model_json_schema())}} if json else {})
    return {"requestBody": {"required": True, "content": content}}


def _of_form(form: type[BaseModel]) -> dict[str, Any]:
    """A form's fields as what they mean, with those that come as JSON text; no text is null."""
    schema = inlined(form.model_json_schema())
    fields = {name: present(said) for name, said in schema["properties"].items()}
    as_json = [name for name, said in fields.items() if said.get("contentMediaType") == JSON_TYPE]
    for name in as_json:
        meant = present(fields[name].pop("contentSchema"))
        fields[name] = {**fields[name], **meant}
        del fields[name]["contentMediaType"]
    return {
        "schema": schema | {"properties": fields},
        "encoding": {name: {"contentType": JSON_TYPE} for name in as_json},
    }


def present(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of what may be left out, without the null that stands for that in Python."""
    options = [option for option in schema.get("anyOf", []) if option != {"type": "null"}]
    if len(options) != 1:
        return schema
    rest = {key: value for key, value in schema.items() if key != "anyOf" and (key, value) != ("default", None)}
    return {**options[0], **rest}


def inlined(schema: dict[str, Any]) -> dict[str, Any]:
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

    written: dict[str, Any] = inline(schema)
    return written
