"""What a job is asked for with: one model a kind, so that the API's documentation states each kind's recipe."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from models.ablation import AblationRecipe
from models.collection_map import MapRecipe
from models.config import (
    ExportRecipe,
    IndexRecipe,
    KnnProbeRecipe,
    LayerSweepRecipe,
    LinearProbeRecipe,
    PretrainRecipe,
    TransformProbeRecipe,
    over_preset,
)
from models.finetuning import FinetuneRecipe
from service.schemas.fields import Id, Label, Text

MAX_NODES = 512
MAX_PROCESSES_PER_NODE = 64

One = Annotated[int, Field(ge=1, le=1, description="Only pretraining runs in several processes.")]
Device = Annotated[Literal["auto", "cpu", "cuda"], Field(description="auto: a GPU if any node has one.")]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Nodes(_Request):
    """How many nodes a job may run on: as many as are free when it starts, and more when more come."""

    min: int = Field(1, ge=1, le=MAX_NODES, description="It waits until so many are free at once.")
    max: int = Field(1, ge=1, le=MAX_NODES, description="At least min.")

    @model_validator(mode="before")
    @classmethod
    def _max_is_min_if_not_given(cls, nodes: Any) -> Any:
        return {"max": nodes["min"], **nodes} if isinstance(nodes, dict) and "min" in nodes else nodes

    @model_validator(mode="after")
    def _range_is_ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"max: at least min ({self.min}), not {self.max}")
        return self


class Resources(_Request):
    """Where a job runs. Processes share every batch evenly, and train as one process with the whole batch would."""

    nodes: Nodes = Nodes()
    processes_per_node: int = Field(
        1, ge=1, le=MAX_PROCESSES_PER_NODE, description="Each has a GPU of its own, or a share of the node's cores."
    )
    device: Device = "auto"


class OneNode(_Request):
    """One."""

    min: One = 1
    max: One = 1


class OneProcess(_Request):
    """Where a job runs that has one process: all but pretraining."""

    nodes: OneNode = OneNode()
    processes_per_node: One = 1
    device: Device = "auto"


class _JobRequest(_Request):
    metadata: dict[Label, Text | bool | int | float | None] = Field(
        {},
        max_length=64,
        description="Your own notes, kept with the job.",
        json_schema_extra={"additionalProperties": False},  # for keys that aren't of the pattern
    )


class PretrainRequest(_JobRequest):
    """Pretrain SimCLR on a data set and export the encoder as a model."""

    kind: Literal["pretrain"]
    dataset_id: Id
    model_id: None = None
    recipe: Annotated[PretrainRecipe, BeforeValidator(over_preset)] = PretrainRecipe()
    resources: Resources = Resources()


class FinetuneRequest(_JobRequest):
    """Train a model's encoder on with labels, and export it as a model of its own that classifies."""

    kind: Literal["finetune"]
    dataset_id: Id
    model_id: Id
    recipe: FinetuneRecipe = FinetuneRecipe()
    resources: OneProcess = OneProcess()


class LinearProbeRequest(_JobRequest):
    """Measure a model: logistic regression on its frozen h, or another layer."""

    kind: Literal["linear_probe"]
    dataset_id: Id
    model_id: Id
    recipe: LinearProbeRecipe = LinearProbeRecipe()
    resources: OneProcess = OneProcess()


class KnnProbeRequest(_JobRequest):
    """Measure a model: the vote of the nearest training images in h, or another layer."""

    kind: Literal["knn_probe"]
    dataset_id: Id
    model_id: Id
    recipe: KnnProbeRecipe = KnnProbeRecipe()
    resources: OneProcess = OneProcess()


class LayerSweepRequest(_JobRequest):
    """Compare a model's layers: linear and kNN probe, effective rank, alignment and uniformity of each."""

    kind: Literal["layer_sweep"]
    dataset_id: Id
    model_id: Id
    recipe: LayerSweepRecipe = LayerSweepRecipe()
    resources: OneProcess = OneProcess()


class TransformProbeRequest(_JobRequest):
    """Measure what a model's h and z know of the transformation that an image went through (Table 3)."""

    kind: Literal["transform_probe"]
    dataset_id: Id
    model_id: Id
    recipe: TransformProbeRecipe = TransformProbeRecipe()
    resources: OneProcess = OneProcess()


class ExportRequest(_JobRequest):
    """Make a model's files anew from its weights, with the variants asked for: they take the place of those it has."""

    kind: Literal["export"]
    dataset_id: Annotated[Id, Field(description="For the images to calibrate and measure on: the model's own.")]
    model_id: Id
    recipe: ExportRecipe = ExportRecipe()
    resources: OneProcess = OneProcess()


class IndexRequest(_JobRequest):
    """Embed the stored images that a model has no vector for."""

    kind: Literal["index"]
    dataset_id: None = None
    model_id: Id
    recipe: IndexRecipe = IndexRecipe()
    resources: OneProcess = OneProcess()


class MapRequest(_JobRequest):
    """Lay a collection out in two dimensions by a model's vectors, for `GET /v1/collections/{id}/map?method=umap`."""

    kind: Literal["map"]
    dataset_id: None = None
    model_id: Id
    recipe: MapRecipe
    resources: OneProcess = OneProcess()


class AblationRequest(_JobRequest):
    """Pretrain and probe a recipe with every combination of some fields' values: a job for each, under this one."""

    kind: Literal["ablation"]
    dataset_id: Id
    model_id: None = None
    recipe: AblationRecipe
    resources: Resources = Resources()


AnyProbeRequest = LinearProbeRequest | KnnProbeRequest | LayerSweepRequest | TransformProbeRequest
AnyJobRequest = (
    PretrainRequest | FinetuneRequest | AnyProbeRequest | ExportRequest | AblationRequest | IndexRequest | MapRequest
)
JobRequest = Annotated[AnyJobRequest, Field(discriminator="kind")]
