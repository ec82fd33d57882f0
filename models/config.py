"""Recipes: what to train. Frozen, unknown keys refused, stored in every checkpoint and ONNX file.

Nothing here imports torch: the API validates recipes with these classes too.
Numbers and letters such as "App. A" refer to the SimCLR paper, arXiv 2002.05709.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Probability = Annotated[float, Field(ge=0, le=1)]

WIDTHS = (0.25, 0.5, 1, 2, 4)


def _known_width(width: float) -> float:
    if width not in WIDTHS:
        raise ValueError(f"one of {', '.join(map(str, WIDTHS))}, not {width}")
    return width


Width = Annotated[float, AfterValidator(_known_width)]

MAX_PIXELS_H = 16_000  # pgvector stores vectors of at most 16,000 dimensions


class Frozen(BaseModel):
    """A value: immutable, unknown keys refused, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Preprocessing(Frozen):
    """From a decoded image to the encoder's input; the same in training, indexing and queries."""

    version: Literal[1] = Field(1, description="Version of the decoding and resizing rules.")
    storage_side: int = Field(
        256, ge=32, le=1024, description="Images whose shorter side is longer are first reduced to it."
    )
    image_size: int = Field(32, ge=8, le=512, description="Side of the encoder's square input, pixels.")
    crop_fraction: float = Field(
        1.0, gt=0, le=1, description="Side of the centre crop over the shorter side (0.875: 256 -> 224, B.6)."
    )


class Encoder(Frozen):
    """The network f: image -> representation h."""

    name: Literal["resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "pixels"] = Field(
        "resnet18", description="`pixels` is the baseline whose h is the flattened image; it can't be trained."
    )
    width: Width = Field(1, description="Multiplier of every channel count (Fig. 7): 0.25, 0.5, 1, 2 or 4.")
    stem: Literal["cifar", "imagenet"] = Field(
        "cifar", description="cifar: 3x3 stride 1, no max-pool (B.9); imagenet: 7x7 stride 2 and max-pool."
    )


class Head(Frozen):
    """The projection head g: h -> z (Section 4.2)."""

    num_layers: Literal[0, 1, 2, 3] = Field(2, description="0: z = h; 1: linear; 2: the paper's MLP; 3: SimCLR v2's.")
    hidden_size: int | None = Field(None, ge=1, le=16384, description="Width of the hidden layers; default: h's size.")
    output_size: int = Field(128, ge=2, le=4096, description="Size of z.")


class Augmentation(Frozen):
    """Two random views of an image (App. A)."""

    crop_area: tuple[Probability, Probability] = Field(
        (0.08, 1.0), description="Range of the crop's share of the area."
    )
    crop_ratio: tuple[float, float] = Field((3 / 4, 4 / 3), description="Range of the crop's width over its height.")
    flip_probability: Probability = Field(0.5, description="Horizontal flip.")
    color_strength: float = Field(
        1.0, ge=0, le=2, description="s: brightness, contrast, saturation 0.8 s, hue 0.2 s (App. A)."
    )
    color_probability: Probability = Field(0.8, description="Colour jitter as a whole.")
    brightness: Literal["multiplicative", "additive"] = Field(
        "multiplicative", description="multiplicative: torchvision and SimCLR v2; additive: the authors' first code."
    )
    grayscale_probability: Probability = Field(0.2, description="Conversion to gray, after the jitter.")
    blur_probability: Probability = Field(0.5, description="Gaussian blur; 0 for CIFAR-10 (B.9).")
    blur_sigma: tuple[float, float] = Field((0.1, 2.0), description="Range of the blur's sigma, pixels.")

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> Self:
        for name in ("crop_area", "crop_ratio", "blur_sigma"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name}: give two numbers with 0 < low <= high, not ({low}, {high})")
        return self


class Loss(Frozen):
    """NT-Xent (eq. 1)."""

    name: Literal["nt_xent"] = "nt_xent"
    temperature: float = Field(0.1, gt=0, le=1000, description="0.1 for ImageNet, 0.5 for CIFAR-10.")


class Optimizer(Frozen):
    """LARS as in the authors' code, or plain SGD with momentum, or AdamW."""

    name: Literal["lars", "sgd", "adamw"] = "lars"
    learning_rate: float = Field(0.3, gt=0, le=1000, description="Before scaling by the batch size.")
    scaling: Literal["linear", "sqrt", "none"] = Field(
        "linear",
        description="linear: lr B / 256; sqrt: lr sqrt(B) (the paper: 0.075 sqrt(B)); none: lr as given (B.1).",
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum; AdamW's first beta.")
    weight_decay: float = Field(1e-6, ge=0, le=1, description="Not applied to biases and batch norm.")


class Schedule(Frozen):
    """Linear warm-up, then cosine to 0 without restarts."""

    epochs: int = Field(100, ge=0, le=100_000, description="0 exports the encoder as it was initialised.")
    warmup_epochs: float = Field(10, ge=0, le=100_000, description="Part of `epochs`.")

    @model_validator(mode="after")
    def _warmup_fits(self) -> Self:
        if self.epochs and self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs: at most epochs ({self.epochs}), not {self.warmup_epochs}")
        return self


class PretrainRecipe(Frozen):
    """Everything that decides what a pretraining run computes."""

    preset: str | None = Field(None, description="Named recipe that the other fields override; see GET /v1/recipes.")
    seed: int = Field(0, ge=0, lt=2**31)
    batch_size: int = Field(256, ge=2, le=65_536, description="Images a step (N); the encoder sees 2N views.")
    preprocessing: Preprocessing = Preprocessing()
    encoder: Encoder = Encoder()
    head: Head = Head()
    augmentation: Augmentation = Augmentation()
    loss: Loss = Loss()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    precision: Literal["float32", "bfloat16"] = Field("bfloat16", description="Autocast type of encoder and head.")
    checkpoint_every_seconds: float = Field(60, ge=1, le=86_400, description="At the end of the step after it.")

    @model_validator(mode="after")
    def _pixels_cannot_train(self) -> Self:
        if self.encoder.name != "pixels":
            return self
        if self.schedule.epochs:
            raise ValueError("schedule.epochs: the encoder `pixels` has nothing to train; set it to 0")
        num_values = 3 * self.preprocessing.image_size**2
        if num_values > MAX_PIXELS_H:
            raise ValueError(
                f"preprocessing.image_size: with the encoder `pixels`, at most 73 (h of {num_values} values"
                f" is over {MAX_PIXELS_H})"
            )
        return self


class LinearProbeRecipe(Frozen):
    """Multinomial logistic regression on frozen h by L-BFGS (B.8); l2 is picked on held-out training images."""

    seed: int = Field(0, ge=0, lt=2**31)
    num_l2_values: int = Field(45, ge=1, le=100, description="Log-spaced from l2_min to l2_max.")
    l2_min: float = Field(1e-6, gt=0)
    l2_max: float = Field(1e5, gt=0)
    held_out_fraction: float = Field(0.2, gt=0, lt=1, description="Of the training split, to pick l2.")
    max_iterations: int = Field(200, ge=1, le=10_000, description="Of L-BFGS, for each l2 value.")

    @model_validator(mode="after")
    def _range_is_ordered(self) -> Self:
        if self.l2_min > self.l2_max:
            raise ValueError(f"l2_min: at most l2_max ({self.l2_max}), not {self.l2_min}")
        return self


class KnnProbeRecipe(Frozen):
    """Weighted k-nearest-neighbour vote on cosine similarity: weight exp(similarity / temperature)."""

    k: int = Field(200, ge=1, le=10_000, description="Neighbours; at most the training images.")
    temperature: float = Field(0.1, gt=0, le=1000)


class IndexRecipe(Frozen):
    """Embed the stored images that the model has no vector for yet."""

    layer: Literal["h"] = "h"
    batch_size: int = Field(64, ge=1, le=4096)


class IngestRecipe(Frozen):
    """Validate, deduplicate and pack an uploaded archive."""

    on_invalid: Literal["reject", "skip"] = Field(
        "reject", description="reject: one file that is no image fails the data set; skip: it is listed and left out."
    )
    storage_side: int = Field(
        256, ge=32, le=1024, description="Images whose shorter side is longer are stored reduced to it."
    )


PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "cifar10": (
        "The paper's CIFAR-10 setting (B.9) with ResNet-18: for one GPU.",
        {
            "batch_size": 512,
            "encoder": {"name": "resnet18", "stem": "cifar"},
            "augmentation": {"color_strength": 0.5, "blur_probability": 0.0},
            "loss": {"temperature": 0.5},
            "optimizer": {"learning_rate": 0.075, "scaling": "sqrt"},
            "schedule": {"epochs": 1000},
        },
    ),
    "imagenet": (
        "The paper's ImageNet setting with ResNet-50 (Section 2, App. A): for several GPUs.",
        {
            "batch_size": 4096,
            "preprocessing": {"image_size": 224, "crop_fraction": 0.875},
            "encoder": {"name": "resnet50", "stem": "imagenet"},
            "loss": {"temperature": 0.1},
            "schedule": {"epochs": 100},
        },
    ),
    "cpu-small": (
        "A small ResNet on 32-pixel images that learns in minutes on two CPU cores (about 1,000 images/s).",
        {
            "batch_size": 256,
            "encoder": {"name": "resnet10", "width": 0.25, "stem": "cifar"},
            "augmentation": {"color_strength": 0.5, "blur_probability": 0.0},
            "loss": {"temperature": 0.1},  # in so few epochs better than B.9's 0.5
            "optimizer": {"learning_rate": 0.075, "scaling": "sqrt"},
            "schedule": {"epochs": 36, "warmup_epochs": 2},
        },
    ),
}


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if nested else value
    return merged


def with_preset(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a pretraining recipe over those of its preset. Raises ValueError if there is no such preset."""
    name = fields.get("preset")
    if name is None:
        return fields
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(f"preset: one of {', '.join(PRESETS)}, not {name!r}")
    return _merge(PRESETS[name][1], fields)


def pretrain_recipe(fields: dict[str, Any]) -> PretrainRecipe:
    """The recipe that `fields` describe, over its `preset` if it names one.

    Raises pydantic.ValidationError, or ValueError for an unknown preset.
    """
    return PretrainRecipe.model_validate(with_preset(fields))
