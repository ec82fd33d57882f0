"""Classification as JSON and as a form."""

from pydantic import BaseModel, ConfigDict, Field

from service.schemas.embeddings import ItemError
from service.schemas.fields import Id
from service.schemas.image_inputs import ImageFiles, ImageUris


class ClassifyOptions(BaseModel):
    """By which classifier, and how much of its answer."""

    model_config = ConfigDict(extra="forbid")

    probe: Id = Field(description="Id of the `linear_probe` or `finetune` job whose classifier it is.")
    top_k: int = Field(5, ge=1, le=1000, description="The likeliest classes; of fewer, all.")


class ClassifyRequest(ClassifyOptions, ImageUris):
    """Images as data URIs."""


class ClassifyForm(ClassifyOptions, ImageFiles):
    """Images as files."""


class LikelyClass(BaseModel):
    """A class that an image may be of."""

    name: str
    probability: float


class ClassifiedImage(BaseModel):
    """What the image at a position of the request is taken for."""

    index: int
    classes: list[LikelyClass] | None = Field(description="Likeliest first; null if the image failed.")
    error: ItemError | None = Field(None, description="Only of an image that failed.")


class Classification(BaseModel):
    """What each image is taken for, in the order of the request."""

    data: list[ClassifiedImage]
    model: str = Field(description="Id of the model whose layer the classifier reads.")
    probe: str
    layer: str
