"""Pages of a list. A cursor is the key of the last item: pages stay right while rows come and go."""

from collections.abc import Sequence
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel, Field
from sqlalchemy import ColumnElement, Select
from sqlalchemy.orm import InstrumentedAttribute, Session

from service.core.ids import ID_PATTERN
from service.schemas.fields import NAME_PATTERN

MAX_LIMIT = 1000
MAX_NUMBER = 2**31 - 1

Item = TypeVar("Item")
Row = TypeVar("Row")


class Page(BaseModel, Generic[Item]):
    """A part of a list."""

    items: list[Item]
    next: str | None = Field(description="The `cursor` of the following page; null after the last.")


Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Items in a page, at most.")]
IdCursor = Annotated[str | None, Query(pattern=ID_PATTERN, description="`next` of the page before.")]
NameCursor = Annotated[str | None, Query(pattern=NAME_PATTERN, description="`next` of the page before.")]
NumberCursor = Annotated[int | None, Query(ge=0, le=MAX_NUMBER, description="`next` of the page before.")]


def read_rows(
    session: Session,
    statement: Select[Row],
    key: InstrumentedAttribute[Any],
    *,
    cursor: str | int | None,
    limit: int,
    descending: bool = True,
) -> tuple[Sequence[Row], str | None]:
    """The rows of `statement` after `cursor`, in the order of the unique column `key`, and the following cursor."""
    if cursor is not None:
        after: ColumnElement[bool] = key < cursor if descending else key > cursor
        statement = statement.where(after)
    ordered = statement.order_by(key.desc() if descending else key)
    found = session.scalars(ordered.limit(limit + 1)).all()
    rows = found[:limit]
    return rows, str(getattr(rows[-1], key.key)) if len(found) > limit else None
