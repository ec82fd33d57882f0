"""API keys as JSON."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from service.core.ids import ID_PATTERN
from service.core.quotas import Limits
from service.schemas.fields import FromRow, Label

KeyId = Annotated[str, Path(pattern=ID_PATTERN, description="Id of a key.")]
KeyScope = Literal["read", "write", "train", "admin"]


YEARS = 9999  # PostgreSQL stores later ones, which Python can't read; a year less, whatever the offset


def _is_text(instant: Any) -> Any:
    if not isinstance(instant, str) or not re.match(r"\d{4}-", instant):  # pydantic takes numbers of seconds, too
        raise ValueError("a text such as 2030-01-31T12:00:00Z")
    return instant


def _can_be_read(instant: datetime) -> datetime:
    if instant.year >= YEARS:
        raise ValueError(f"before the year {YEARS}")
    return instant


Instant = Annotated[AwareDatetime, BeforeValidator(_is_text), AfterValidator(_can_be_read)]


class NewKey(BaseModel):
    """A key to make, of the tenant of the key that asks for it."""

    model_config = ConfigDict(extra="forbid")

    name: Label = Field(description="Yours to choose, to tell keys apart; need not be unique.")
    scopes: list[KeyScope] = Field(
        min_length=1, description="What it may do; none includes another, but `admin` includes all."
    )
    expires_at: Instant | None = Field(None, description="It is refused from then on; null: never by itself.")
    limits: Limits = Field(Limits(), description="At most those of the key that asks, which are the default.")


class KeyOut(FromRow):
    """A key, without its secret."""

    id: str
    name: str
    prefix: str = Field(description="The first characters of its secret.")
    scopes: list[KeyScope]
    limits: Limits
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="To a minute or so.")


class CreatedKey(KeyOut):
    """A new key with its secret."""

    secret: str = Field(description="Shown here and never again: the service keeps only its sha256.")
