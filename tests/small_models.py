"""Small exported models, published as a job would."""

import functools
import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.config import PretrainRecipe, pretrain_recipe
from models.export import export_model
from service.core.db import Database
from service.core.ids import new_id
from service.core.storage import Storage
from service.core.tables import Alias, Model
from tests.models.exported import network
from tests.models.image_files import noise


@dataclass(frozen=True)
class Exported:
    """An ONNX file and what model.json says of it."""

    onnx: bytes
    description: dict[str, Any]


def recipe_of(encoder: str, side: int) -> PretrainRecipe:
    """The recipe of `exported`."""
    recipe: PretrainRecipe = pretrain_recipe(
        {
            "preset": "cpu-small",
            "encoder": {"name": encoder},
            "preprocessing": {"image_size": side},
            "head": {"output_size": 4},
            "schedule": {"epochs": 0, "warmup_epochs": 0},
        }
    )
    return recipe


@functools.cache
def exported(encoder: str, side: int) -> Exported:
    """`pixels`, whose h is the image itself, or a ResNet; made once a session."""
    recipe = recipe_of(encoder, side)
    with tempfile.TemporaryDirectory() as folder:
        images = noise(2 * side, side).reshape(2, side, side, 3)
        description = export_model(network(recipe), recipe, images, Path(folder))
        return Exported((Path(folder) / "model.onnx").read_bytes(), description)


def publish(
    database: Database, storage: Storage, *, encoder: str = "pixels", side: int = 8, alias: str | None = "production"
) -> Model:
    """Store a model and have the alias serve it."""
    made = exported(encoder, side)
    id_ = new_id("mdl")
    key = f"models/{id_}/model.onnx"
    storage.put(key, made.onnx)
    file = {"key": key, "sha256": hashlib.sha256(made.onnx).hexdigest(), "num_bytes": len(made.onnx)}
    columns = {name: made.description[name] for name in ("recipe", "preprocessing", "layers", "parity_cosine")}
    model = Model(id=id_, files={"model.onnx": file}, **columns)
    with database.transaction() as session:
        session.add(model)
        session.flush()
        if alias is not None:
            session.merge(Alias(name=alias, model_id=id_))
    return model
