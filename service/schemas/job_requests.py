"""What a job is asked for with: one model a kind, so that the API's documentation states each kind's recipe."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from models.config import IndexRecipe, KnnProbeRecipe, LinearProbeRecipe, PretrainRecipe, with_preset
from service.schemas.fields import Id, Label, Text

ONE_PROCESS = "this release trains in one process"


def _one(number: int) -> int:
    if number > 1:
        raise ValueError(f"{ONE_PROCESS}; give 1, not {number}")
    return number


One = Annotated[int, Field(ge=1, json_schema_extra={"maximum": 1}), AfterValidator(_one)]


def _over_preset(recipe: Any) -> Any:
    return with_preset(recipe) if isinstance(recipe, dict) else recipe


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Nodes(_Request):
    """How many nodes a job may run on."""

    min: One = Field(1, description=f"1: {ONE_PROCESS}.")
    max: One = Field(1, description=f"1: {ONE_PROCESS}.")


class Resources(_Request):
    """Where a job runs."""

    nodes: Nodes = Nodes()
    processes_per_node: One = Field(1, description=f"1: {ONE_PROCESS}.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU if any node has one.")


class _JobRequest(_Request):
    resources: Resources = Resources()
    metadata: dict[Label, Text | bool | int | float | None] = Field(
        {}, max_length=64, description="Your own notes, kept with the job."
    )


class PretrainRequest(_JobRequest):
    """Pretrain SimCLR on a data set and export the encoder as a model."""

    kind: Literal["pretrain"]
    dataset_id: Id
    model_id: None = None
    recipe: Annotated[PretrainRecipe, BeforeValidator(_over_preset)] = PretrainRecipe()


class LinearProbeRequest(_JobRequest):
    """Measure a model: logistic regression on its frozen h."""

    kind: Literal["linear_probe"]
    dataset_id: Id
    model_id: Id
    recipe: LinearProbeRecipe = LinearProbeRecipe()


class KnnProbeRequest(_JobRequest):
    """Measure a model: the vote of the nearest training images in h."""

    kind: Literal["knn_probe"]
    dataset_id: Id
    model_id: Id
    recipe: KnnProbeRecipe = KnnProbeRecipe()


class IndexRequest(_JobRequest):
    """Embed the stored images that a model has no vector for."""

    kind: Literal["index"]
    dataset_id: None = None
    model_id: Id
    recipe: IndexRecipe = IndexRecipe()


AnyJobRequest = PretrainRequest | LinearProbeRequest | KnnProbeRequest | IndexRequest
JobRequest = Annotated[AnyJobRequest, Field(discriminator="kind")]
