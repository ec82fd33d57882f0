"""Recipes hold the paper's numbers and refuse what can't be trained, naming the field."""

import math
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from models.config import PRESETS, LinearProbeRecipe, PretrainRecipe, pretrain_recipe


def test_the_imagenet_preset_is_the_papers() -> None:
    """Batch 4096, s = 1, blur with p = 0.5, temperature 0.1, LARS 0.3 B / 256, weight decay 1e-6, 10 warm-up epochs."""
    recipe = pretrain_recipe({"preset": "imagenet"})
    assert (recipe.batch_size, recipe.loss.temperature) == (4096, 0.1)
    assert (recipe.augmentation.color_strength, recipe.augmentation.blur_probability) == (1.0, 0.5)
    assert (recipe.augmentation.crop_area, recipe.augmentation.blur_sigma) == ((0.08, 1.0), (0.1, 2.0))
    assert (recipe.augmentation.color_probability, recipe.augmentation.grayscale_probability) == (0.8, 0.2)
    assert (recipe.optimizer.name, recipe.optimizer.learning_rate, recipe.optimizer.scaling) == ("lars", 0.3, "linear")
    assert (recipe.optimizer.weight_decay, recipe.schedule.warmup_epochs) == (1e-6, 10)
    assert (recipe.preprocessing.image_size, recipe.head.output_size) == (224, 128)


@pytest.mark.parametrize(
    ("preset", "encoder", "batch_size"), [("cifar10", "resnet18", 512), ("cifar10-resnet50", "resnet50", 1024)]
)
def test_the_cifar10_presets_are_the_papers(preset: str, encoder: str, batch_size: int) -> None:
    """Strength 0.5, no blur, temperature 0.5, a 3x3 stem, 32 pixels, rate 1.0 B / 256 (B.9, the authors' README)."""
    recipe = pretrain_recipe({"preset": preset})
    assert (recipe.encoder.name, recipe.batch_size, recipe.schedule.epochs) == (encoder, batch_size, 1000)
    assert (recipe.optimizer.learning_rate, recipe.optimizer.scaling) == (1.0, "linear")
    assert (recipe.augmentation.color_strength, recipe.augmentation.blur_probability) == (0.5, 0.0)
    assert (recipe.loss.temperature, recipe.encoder.stem) == (0.5, "cifar")
    assert recipe.preprocessing.image_size == 32


@pytest.mark.parametrize(
    "fields",
    [
        *({"name": "margin", "margin": margin} for margin in (0, 0.4, 0.8, 1.6)),
        *({"name": "nt_logistic", "temperature": temperature} for temperature in (0.1, 0.2, 0.5, 1.0)),
        *({"name": name, "semi_hard": True, "negatives": "other_view"} for name in ("margin", "nt_logistic")),
        *({"temperature": temperature, "normalize": False} for temperature in (10, 100)),
    ],
)
def test_the_papers_other_losses_are_recipes(fields: dict[str, Any]) -> None:
    """What B.10 tries of the margin and the logistic loss, mining (Table 4), and Table 5 without normalisation."""
    loss = pretrain_recipe({"preset": "imagenet", "loss": fields}).loss
    assert {name: getattr(loss, name) for name in fields} == fields


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_the_base_of_other_fields(name: str) -> None:
    """Fields given beside a preset override it one by one; the recipe remembers its preset."""
    plain = pretrain_recipe({"preset": name})
    changed = pretrain_recipe({"preset": name, "encoder": {"width": 2}})
    assert changed.preset == name
    assert changed.encoder == plain.encoder.model_copy(update={"width": 2})
    assert changed.model_copy(update={"encoder": plain.encoder, "preset": name}) == plain


def test_a_recipe_survives_its_json() -> None:
    """What is stored in a checkpoint is what was asked for."""
    recipe = pretrain_recipe({"preset": "cifar10", "seed": 7})
    assert PretrainRecipe.model_validate_json(recipe.model_dump_json()) == recipe


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temperature": 0.1}, "temperature"),
        ({"loss": {"temperature": math.nan}}, "loss.temperature"),
        ({"loss": {"temperature": 0}}, "loss.temperature"),
        ({"loss": {"semi_hard": True}}, "semi_hard: for nt_logistic and margin"),
        ({"loss": {"name": "margin", "semi_hard": True, "margin": 0}}, "margin: above 0 with semi_hard"),
        ({"loss": {"margin": -0.1}}, "loss.margin"),
        ({"loss": {"negatives": "one_view"}}, "loss.negatives"),
        ({"batch_size": 96, "microbatch_size": 64}, r"microbatch_size: a divisor of batch_size \(96\), not 64"),
        (
            {"encoder": {"name": "vit_small", "patch_size": 5}},
            r"encoder.patch_size: a divisor of preprocessing.image_size \(32\), not 5",
        ),
        ({"encoder": {"width": 3}}, "one of 0.25, 0.5, 1, 2, 4, not 3"),
        ({"schedule": {"epochs": 5, "warmup_epochs": 6}}, r"warmup_epochs: at most epochs \(5\), not 6"),
        ({"augmentation": {"crop_area": (0.5, 0.1)}}, "crop_area: give two numbers with 0 < low <= high"),
        ({"augmentation": {"noise_sigma": (0, 0.1)}}, "noise_sigma: give two numbers with 0 < low <= high"),
        ({"augmentation": {"operations": ("crop", "blur", "crop")}}, "operations: each at most once, not crop again"),
        ({"augmentation": {"operations": ()}}, "augmentation.operations: at least one that can change the two views"),
        ({"augmentation": {"operations": ("grayscale",), "grayscale_probability": 1}}, "augmentation.operations"),
        (
            {"augmentation": {"operations": ("blur",), "branches": "one", "blur_probability": 0}},
            "augmentation.operations",
        ),
        ({"augmentation": {"operations": ("crop", "solarize")}}, "augmentation.operations.1"),
        ({"augmentation": {"cutout_side": 0}}, "augmentation.cutout_side"),
        ({"encoder": {"name": "pixels"}}, "schedule.epochs: the encoder `pixels` has nothing to train"),
        (
            {"encoder": {"name": "pixels"}, "schedule": {"epochs": 0}, "preprocessing": {"image_size": 224}},
            "preprocessing.image_size: with the encoder `pixels`, at most 73",
        ),
        (
            {"preset": "resnet"},
            "preset: one of cifar10, cifar10-resnet50, imagenet, imagenet-256, vit-small, cpu-small, not 'resnet'",
        ),
        ({"preset": []}, "preset: one of"),
        ({"batch_size": 10**5000}, "batch_size"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(fields: dict[str, Any], message: str) -> None:
    """The message names the field and what is allowed."""
    with pytest.raises(ValueError, match=message):
        pretrain_recipe(fields)


def test_an_empty_range_of_l2_values_is_refused() -> None:
    """l2_min is at most l2_max."""
    with pytest.raises(ValidationError, match="l2_min: at most l2_max"):
        LinearProbeRecipe(l2_min=1.0, l2_max=0.1)


def test_the_largest_pixels_encoder_is_what_the_message_says() -> None:
    """73 pixels are accepted, 74 are not: 3 * 74^2 > 16,000 dimensions."""
    fields: dict[str, Any] = {"encoder": {"name": "pixels"}, "schedule": {"epochs": 0, "warmup_epochs": 0}}
    pretrain_recipe({**fields, "preprocessing": {"image_size": 73}})
    with pytest.raises(ValidationError):
        pretrain_recipe({**fields, "preprocessing": {"image_size": 74}})


def _undocumented(model: type[BaseModel]) -> set[str]:
    plain = {name: f for name, f in model.model_fields.items() if not isinstance(f.default, BaseModel)}
    nested = [f.default for f in model.model_fields.values() if isinstance(f.default, BaseModel)]
    return {name for name, f in plain.items() if not f.description}.union(*(_undocumented(type(n)) for n in nested))


def test_the_recipe_documents_itself() -> None:
    """Every field has a description, but the seed and the names whose choices say all."""
    assert _undocumented(PretrainRecipe) == {"seed", "name"}


def test_the_schema_states_each_choice() -> None:
    """What a form, a client or a fuzzer reads off it is what is taken."""
    schema = PretrainRecipe.model_json_schema()
    assert schema["$defs"]["Encoder"]["properties"]["width"]["enum"] == [0.25, 0.5, 1, 2, 4]
    assert schema["properties"]["preset"]["anyOf"][0]["enum"] == list(PRESETS)
