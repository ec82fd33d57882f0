"""Recipes: the presets, and what each kind of job may be told."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from models.ablation import AblationRecipe
from models.collection_map import MapRecipe
from models.config import (
    PRESETS,
    ExportRecipe,
    IndexRecipe,
    KnnProbeRecipe,
    LayerSweepRecipe,
    LinearProbeRecipe,
    PretrainRecipe,
    TransformProbeRecipe,
    pretrain_recipe,
)
from models.finetuning import FinetuneRecipe
from service.core.keys import READ
from service.scopes import requires

router = APIRouter(prefix="/v1/recipes", tags=["jobs"])

RECIPES: dict[str, type[BaseModel]] = {
    "pretrain": PretrainRecipe,
    "finetune": FinetuneRecipe,
    "linear_probe": LinearProbeRecipe,
    "knn_probe": KnnProbeRecipe,
    "layer_sweep": LayerSweepRecipe,
    "transform_probe": TransformProbeRecipe,
    "export": ExportRecipe,
    "ablation": AblationRecipe,
    "index": IndexRecipe,
    "map": MapRecipe,
}


class Preset(BaseModel):
    """A named pretraining recipe."""

    description: str
    recipe: PretrainRecipe


class Recipes(BaseModel):
    """What `recipe` of a new job may be."""

    presets: dict[str, Preset] = Field(
        description="For `pretrain`: `recipe.preset` names one, other fields override it."
    )
    schemas: dict[str, dict[str, Any]] = Field(description="JSON Schema of the recipe of each kind of job.")


@router.get("")
@requires(READ)
def get_recipes() -> Recipes:
    """The presets, complete, and the JSON Schema of each kind's recipe."""
    presets = {
        name: Preset(description=description, recipe=pretrain_recipe({"preset": name}))
        for name, (description, _) in PRESETS.items()
    }
    return Recipes(presets=presets, schemas={kind: recipe.model_json_schema() for kind, recipe in RECIPES.items()})
