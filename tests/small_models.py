"""Small exported models, published as a job would."""

import functools
import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.config import PretrainRecipe, pretrain_recipe
from models.export import Sample, export_model
from models.variants import Variant
from service.core.db import Database
from service.core.ids import new_id
from service.core.storage import Storage
from service.core.tables import DEFAULT_TENANT, Alias, Model
from tests.models.exported import network
from tests.models.image_files import noise


@dataclass(frozen=True)
class Exported:
    """The ONNX files by name and what model.json says of them."""

    files: dict[str, bytes]
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
def exported(encoder: str, side: int, variants: tuple[Variant, ...] = ("float32",)) -> Exported:
    """`pixels`, whose h is the image itself, or a ResNet; made once a session."""
    recipe = recipe_of(encoder, side)
    with tempfile.TemporaryDirectory() as folder:
        images = noise(2 * side, side).reshape(2, side, side, 3)
        description = export_model(network(recipe), recipe, Sample(images, images), Path(folder), variants)
        files = {path.name: path.read_bytes() for path in Path(folder).glob("*.onnx")}
        return Exported(files, description)


def publish(
    database: Database,
    storage: Storage,
    *,
    encoder: str = "pixels",
    side: int = 8,
    alias: str | None = "production",
    variants: tuple[Variant, ...] = ("float32",),
    tenant: str = DEFAULT_TENANT,
) -> Model:
    """Store a model and have the tenant's alias serve it."""
    made = exported(encoder, side, variants)
    id_ = new_id("mdl")
    files = {}
    for name, content in made.files.items():
        key = f"models/{id_}/{name}"
        storage.put(key, content)
        files[name] = {"key": key, "sha256": hashlib.sha256(content).hexdigest(), "num_bytes": len(content)}
    columns = {
        name: made.description[name] for name in ("recipe", "preprocessing", "layers", "parity_cosine", "variants")
    }
    model = Model(tenant=tenant, id=id_, files=files, **columns)
    with database.of(tenant).transaction() as session:
        session.add(model)
        session.flush()
        if alias is not None:
            session.merge(Alias(tenant=tenant, name=alias, model_id=id_))
    return model
