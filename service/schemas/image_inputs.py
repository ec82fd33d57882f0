"""Images that come with a request and aren't stored: as data URIs in JSON, or as files of a form."""

from typing import Annotated

from fastapi import UploadFile
from pydantic import BaseModel, Field

DataUri = Annotated[str, Field(pattern=r"^data:[^,]{0,200};base64,", description="data:image/png;base64,…")]


class ImageUris(BaseModel):
    """Images as data URIs."""

    input: DataUri | Annotated[list[DataUri], Field(min_length=1)] = Field(description="One image or many.")


class ImageFiles(BaseModel):
    """Images as files."""

    files: list[UploadFile] = Field(min_length=1, description="JPEG, PNG or WebP files.")
