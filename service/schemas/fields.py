"""What requests and responses share: types of single fields, and how a row becomes JSON."""

import re
from typing import Annotated

from fastapi import Path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from service.core.ids import ID_PATTERN

# PostgreSQL stores no NUL, and nothing can encode a lone surrogate: pydantic's patterns refuse that one by themselves.
NO_NUL = r"^[^\x00]*$"
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

Id = Annotated[str, Field(pattern=ID_PATTERN)]
Label = Annotated[str, Field(pattern=NO_NUL, min_length=1, max_length=200)]
Text = Annotated[str, Field(pattern=NO_NUL, max_length=1000)]

DatasetId = Annotated[str, Path(pattern=ID_PATTERN, description="Id of a data set.")]
JobId = Annotated[str, Path(pattern=ID_PATTERN, description="Id of a job.")]
ModelId = Annotated[str, Path(pattern=ID_PATTERN, description="Id of a model.")]


def _no_id(name: str) -> str:
    if re.match(ID_PATTERN, name):
        raise ValueError("a name that can't be taken for an id")
    return name


AliasName = Annotated[
    str, Path(pattern=NAME_PATTERN, description="Name of an alias, such as `production`."), AfterValidator(_no_id)
]


class FromRow(BaseModel):
    """A response that takes its fields from the attributes of a row: `model_validate(row)`."""

    model_config = ConfigDict(from_attributes=True)
