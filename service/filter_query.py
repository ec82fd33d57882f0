"""A filter in a query string: JSON text, since FastAPI takes no nested model there."""

from typing import Annotated

from fastapi import Depends, Query
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError

from service.core.filters import Condition, Filter

MAX_LENGTH = 20_000
FILTER: TypeAdapter[Condition] = TypeAdapter(Filter)

TEXT = Query(
    alias="filter",
    max_length=MAX_LENGTH,
    description="A filter of label and metadata, as that of `POST /v1/search`: the other images are passed over."
    f" At most {MAX_LENGTH:,} characters.",
    json_schema_extra={"contentMediaType": "application/json"},
)


def parse_filter(content: str) -> Condition:
    """The filter that the query parameter `filter` says. Raises RequestValidationError."""
    try:
        return FILTER.validate_json(content)
    except ValidationError as error:
        located = [{**entry, "loc": ("query", "filter", *entry["loc"])} for entry in error.errors(include_url=False)]
        for entry in located:
            if entry["type"] == "json_invalid":  # FastAPI's own says so of the body
                entry["type"] = "json_field"
        raise RequestValidationError(located) from error


async def _required(content: Annotated[str, TEXT]) -> Condition:
    return parse_filter(content)


async def _optional(content: Annotated[str | None, TEXT] = None) -> Condition | None:
    return None if content is None else parse_filter(content)


FilterQuery = Annotated[Condition | None, Depends(_optional)]
RequiredFilterQuery = Annotated[Condition, Depends(_required)]
