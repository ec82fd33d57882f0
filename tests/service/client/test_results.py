"""The clients' types of answers are those of the API."""

import pytest
from pydantic import BaseModel

from service.client import results
from service.schemas.classify import ClassifiedImage
from service.schemas.datasets import DatasetOut, Failure
from service.schemas.images import UploadedImage
from service.schemas.jobs import JobOut
from service.schemas.models import ModelOut
from service.schemas.search import Neighbor


@pytest.mark.parametrize(
    ("typed", "model"),
    [
        (results.Failure, Failure),
        (results.Dataset, DatasetOut),
        (results.ReadyDataset, DatasetOut),
        (results.Job, JobOut),
        (results.SucceededJob, JobOut),
        (results.Model, ModelOut),
        (results.UploadedImage, UploadedImage),
        (results.Hit, Neighbor),
        (results.ClassifiedImage, ClassifiedImage),
    ],
)
def test_the_keys_are_those_of_the_api(typed: type, model: type[BaseModel]) -> None:
    """A field that the API gains or loses is one here too."""
    assert typed.__annotations__.keys() == model.model_fields.keys() | model.model_computed_fields.keys()
