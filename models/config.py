"""Recipes: what to train. Frozen, unknown keys refused, stored in every checkpoint and ONNX file.

Nothing here imports torch: the API validates recipes with these classes too.
Numbers and letters such as "App. A" refer to the SimCLR paper, arXiv 2002.05709.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from models.variants import VARIANTS, Variant

Probability = Annotated[float, Field(ge=0, le=1)]

WIDTHS = (0.25, 0.5, 1, 2, 4)


def _known_width(width: float) -> float:
    if width not in WIDTHS:
        raise ValueError(f"one of {', '.join(map(str, WIDTHS))}, not {width}")
    return width


Width = Annotated[float, AfterValidator(_known_width), Field(json_schema_extra={"enum": list(WIDTHS)})]


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"each at most once, not {', '.join(sorted(twice))} again")
    return names


Layer = Annotated[str, Field(min_length=1, max_length=32)]
Layers = Annotated[tuple[Layer, ...], Field(min_length=1, max_length=64), AfterValidator(_each_once)]
LAYER_DESCRIPTION = (
    "Of a ResNet: stem, layer1.0 and every further block up to the last but one; of a ViT: blocks.0 to blocks.10; then"
    " h, the head's hidden layers g1, g2 after their ReLU, and z."
)

MAX_PIXELS_H = 16_000  # pgvector stores vectors of at most 16,000 dimensions


class Frozen(BaseModel):
    """A value: immutable, unknown keys refused, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Preprocessing(Frozen):
    """From a decoded image to the encoder's input; the same in training, indexing and queries."""

    version: Literal[2] = Field(2, description="Version of the decoding and resizing rules.")
    storage_side: int = Field(
        256, ge=32, le=1024, description="Images whose shorter side is longer are first reduced to it."
    )
    image_size: int = Field(32, ge=8, le=512, description="Side of the encoder's square input, pixels.")
    crop_fraction: float = Field(
        1.0, gt=0, le=1, description="Side of the centre crop over the shorter side (0.875: 256 -> 224, B.6)."
    )


class Encoder(Frozen):
    """The network f: image -> representation h."""

    name: Literal["resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "vit_small", "pixels"] = (
        Field("resnet18", description="`pixels` is the baseline whose h is the flattened image; it can't be trained.")
    )
    width: Width = Field(1, description="Multiplier of every channel count (Fig. 7): 0.25, 0.5, 1, 2 or 4.")
    stem: Literal["cifar", "imagenet"] = Field(
        "cifar", description="Of a ResNet: cifar: 3x3 stride 1, no max-pool (B.9); imagenet: 7x7 stride 2 and max-pool."
    )
    patch_size: int = Field(
        16, ge=2, le=64, description="Of a ViT: side of a patch, pixels; divides image_size (16 for 224, 4 for 32)."
    )


class Head(Frozen):
    """The projection head g: h -> z (Section 4.2)."""

    num_layers: Literal[0, 1, 2, 3] = Field(2, description="0: z = h; 1: linear; 2: the paper's MLP; 3: SimCLR v2's.")
    hidden_size: int | None = Field(None, ge=1, le=16384, description="Width of the hidden layers; default: h's size.")
    output_size: int = Field(128, ge=2, le=4096, description="Size of z.")


Operation = Literal["crop", "flip", "color_jitter", "grayscale", "blur", "cutout", "rotation", "noise", "sobel"]


class Augmentation(Frozen):
    """Two random views of an image: any of the operations of Fig. 4, in any order (App. A has the default).

    The paper gives no numbers for cutout, rotation, noise and Sobel; their defaults here are ours.
    """

    operations: tuple[Operation, ...] = Field(
        ("crop", "flip", "color_jitter", "grayscale", "blur"),
        description="What makes a view, first to last, each at most once. A view that doesn't start with a crop"
        " starts with the centre of the image.",
    )
    branches: Literal["both", "one"] = Field(
        "both",
        description="both: each view has its own operations; one: Fig. 5's protocol, both start from the same random"
        " crop, and the operations change the first view alone.",
    )
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
    grayscale_probability: Probability = Field(0.2, description="Conversion to gray.")
    blur_probability: Probability = Field(0.5, description="Gaussian blur; 0 for CIFAR-10 (B.9).")
    blur_sigma: tuple[float, float] = Field((0.1, 2.0), description="Range of the blur's sigma, pixels.")
    cutout_probability: Probability = Field(1.0, description="A gray square around a random pixel (arXiv 1708.04552).")
    cutout_side: float = Field(0.5, gt=0, le=1, description="Side of the square over the view's side.")
    rotation_probability: Probability = Field(0.75, description="Rotation by 90, 180 or 270 degrees, equally likely.")
    noise_probability: Probability = Field(0.5, description="Gaussian noise on every value.")
    noise_sigma: tuple[float, float] = Field((0.02, 0.1), description="Range of the noise's standard deviation.")
    sobel_probability: Probability = Field(0.5, description="Magnitude of the Sobel gradient of each channel.")

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> Self:
        for name in ("crop_area", "crop_ratio", "blur_sigma", "noise_sigma"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name}: give two numbers with 0 < low <= high, not ({low}, {high})")
        return self

    @model_validator(mode="after")
    def _operations_are_different(self) -> Self:
        twice = {name for name in self.operations if self.operations.count(name) > 1}
        if twice:
            raise ValueError(f"operations: each at most once, not {', '.join(sorted(twice))} again")
        return self

    def makes_views_differ(self) -> bool:
        """Whether an image's two views can differ: if they never do, there is nothing to learn."""
        probabilities = {
            "crop": 1.0,
            "flip": self.flip_probability,
            "color_jitter": self.color_probability if self.color_strength else 0.0,
            "grayscale": self.grayscale_probability,
            "blur": self.blur_probability,
            "cutout": self.cutout_probability,
            "rotation": self.rotation_probability,
            "noise": self.noise_probability,
            "sobel": self.sobel_probability,
        }
        without_parameters = {"flip", "grayscale", "sobel"} if self.branches == "both" else set()
        return any(
            probabilities[name] > 0 and not (name in without_parameters and probabilities[name] == 1)
            for name in self.operations
        )


class Loss(Frozen):
    """NT-Xent (eq. 1), or what Table 2 compares it with."""

    name: Literal["nt_xent", "nt_logistic", "margin"] = Field(
        "nt_xent", description="nt_xent: eq. 1; nt_logistic, margin: the logistic and the triplet loss of Table 2."
    )
    temperature: float = Field(
        0.1, ge=1e-3, le=1000, description="0.1 for ImageNet, 0.5 for CIFAR-10; the margin loss has none."
    )
    normalize: bool = Field(True, description="Cosine similarity; false: the plain dot product (Table 5).")
    negatives: Literal["both_views", "other_view"] = Field(
        "both_views",
        description="both_views: all 2N - 2 views of other images (eq. 1); other_view: the N - 1 views of other images"
        " that were made as the positive was (B.10, Table 4).",
    )
    margin: float = Field(0.8, ge=0, le=1000, description="m of the margin loss (B.10 tries 0, 0.4, 0.8 and 1.6).")
    semi_hard: bool = Field(
        False,
        description="Of nt_logistic and margin: only the closest negative that is farther than the positive counts.",
    )

    @model_validator(mode="after")
    def _something_is_mined(self) -> Self:
        if self.semi_hard and self.name == "nt_xent":
            raise ValueError("semi_hard: for nt_logistic and margin; nt_xent weighs hard negatives by itself")
        if self.semi_hard and self.name == "margin" and not self.margin:
            raise ValueError("margin: above 0 with semi_hard; within a margin of 0 there is no negative")
        return self


class Optimizer(Frozen):
    """LARS as in the authors' code, or plain SGD with momentum, or AdamW."""

    name: Literal["lars", "sgd", "adamw"] = "lars"
    learning_rate: float = Field(0.3, gt=0, le=1000, description="Before scaling by the batch size.")
    scaling: Literal["linear", "sqrt", "none"] = Field(
        "linear",
        description="linear: lr B / 256; sqrt: lr sqrt(B) (the paper: 0.075 sqrt(B)); none: lr as given (B.1).",
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum; AdamW's first beta.")
    weight_decay: float = Field(
        1e-6, ge=0, le=1, description="Of kernels: not of biases, norms and a ViT's class token."
    )


class Schedule(Frozen):
    """Linear warm-up, then cosine to 0 without restarts."""

    epochs: int = Field(100, ge=0, le=100_000, description="0 exports the encoder as it was initialised.")
    warmup_epochs: float = Field(10, ge=0, le=100_000, description="Part of `epochs`.")

    @model_validator(mode="after")
    def _warmup_fits(self) -> Self:
        if self.epochs and self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs: at most epochs ({self.epochs}), not {self.warmup_epochs}")
        return self


PresetName = Literal["cifar10", "cifar10-resnet50", "imagenet", "imagenet-256", "vit-small", "cpu-small"]


class PretrainRecipe(Frozen):
    """Everything that decides what a pretraining run computes."""

    preset: PresetName | None = Field(
        None, description="Named recipe that the other fields override; see GET /v1/recipes."
    )
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
    microbatch_size: int | None = Field(
        None,
        ge=1,
        description="Images that the encoder sees at once, a divisor of batch_size; default: all. The gradient stays"
        " that of the loss over the whole batch. A ResNet's batch norm sees a microbatch: give it 32 images or more.",
    )
    knn_every_epochs: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="Every so many epochs, and at the end, a kNN probe of h among labelled training images: `knn_top1`"
        " beside the loss. Default: none.",
    )
    compile: bool = Field(True, description="On CUDA, compile encoder, head and augmentation; a CPU runs them as is.")
    checkpoint_every_seconds: float = Field(60, ge=1, le=86_400, description="At the end of the step after it.")

    @model_validator(mode="after")
    def _views_differ(self) -> Self:
        if self.schedule.epochs and not self.augmentation.makes_views_differ():
            raise ValueError(
                "augmentation.operations: at least one that can change the two views of an image differently,"
                f" not ({', '.join(self.augmentation.operations)}) with these probabilities"
            )
        return self

    @model_validator(mode="after")
    def _microbatches_fill_the_batch(self) -> Self:
        if self.microbatch_size and self.batch_size % self.microbatch_size:
            raise ValueError(
                f"microbatch_size: a divisor of batch_size ({self.batch_size}), not {self.microbatch_size}"
            )
        return self

    @model_validator(mode="after")
    def _patches_fill_the_image(self) -> Self:
        size, patch = self.preprocessing.image_size, self.encoder.patch_size
        if self.encoder.name == "vit_small" and size % patch:
            raise ValueError(f"encoder.patch_size: a divisor of preprocessing.image_size ({size}), not {patch}")
        return self

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


class LogisticFit(Frozen):
    """Multinomial logistic regression on a frozen layer by L-BFGS (B.8)."""

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


class LinearSGD(Frozen):
    """SGD on random crops with flips (B.6): Nesterov momentum 0.9, no weight decay, a cosine to 0 without warm-up."""

    epochs: int = Field(90, ge=1, le=100_000, description="B.6; the authors' README takes 100 on CIFAR-10.")
    batch_size: int = Field(
        4096, ge=1, le=65_536, description="B.6; 512 in the README on CIFAR-10. At most the training images."
    )
    learning_rate: float = Field(
        0.1, gt=0, le=1000, description="B.6 and the README. The peak is this times the batch size over 256."
    )


class LinearProbeRecipe(LogisticFit):
    """Multinomial logistic regression on frozen h."""

    layer: Layer = Field("h", description=LAYER_DESCRIPTION)
    protocol: Literal["lbfgs", "sgd"] = Field(
        "lbfgs",
        description="lbfgs: on the images as they are served, l2 picked on held-out training images (B.8); sgd: on"
        " random crops with flips, where nothing is picked: only `layer`, `seed` and `sgd` count (B.6).",
    )
    sgd: LinearSGD = Field(LinearSGD(), description="Of the protocol `sgd`.")


class KnnProbeRecipe(Frozen):
    """Weighted k-nearest-neighbour vote on cosine similarity: weight exp(similarity / temperature)."""

    layer: Layer = Field("h", description=LAYER_DESCRIPTION)
    k: int = Field(200, ge=1, le=10_000, description="Neighbours; at most the training images.")
    temperature: float = Field(0.1, gt=0, le=1000)


class LayerSweepRecipe(LogisticFit):
    """Linear and kNN probe and the geometry of each layer of a model: is h the one to take?"""

    layers: Layers | None = Field(None, description=f"{LAYER_DESCRIPTION} Default: all that the model has.")
    k: int = Field(200, ge=1, le=10_000, description="Neighbours; at most the training images.")
    temperature: float = Field(0.1, gt=0, le=1000, description="Of the neighbours' vote.")
    num_view_images: int = Field(
        1000,
        ge=2,
        le=5_000,
        description="Test images, at most, of which two views each give alignment and uniformity.",
    )


Transformation = Literal["color", "rotation", "noise", "sobel"]


class TransformProbeRecipe(LogisticFit):
    """Table 3: what a linear classifier reads off a layer about the transformation that an image went through.

    Every image goes through one of a transformation's alternatives, each by as many images.
    """

    layers: Layers | None = Field(None, description=f"{LAYER_DESCRIPTION} Default: h and z.")
    transformations: Annotated[tuple[Transformation, ...], Field(min_length=1), AfterValidator(_each_once)] = Field(
        ("color", "rotation", "noise", "sobel"),
        description="color: as it is or gray; rotation: by 0, 90, 180 or 270 degrees; noise: as it is or with Gaussian"
        " noise; sobel: as it is or its Sobel gradient.",
    )
    num_train_images: int = Field(5000, ge=8, le=1_000_000, description="To learn from, at most.")
    num_test_images: int = Field(5000, ge=4, le=1_000_000, description="To be scored on, at most.")
    noise_sigma: float = Field(
        0.1, gt=0, le=1, description="Standard deviation of the noise, of values in [0, 1]; the paper gives none."
    )


class ExportRecipe(Frozen):
    """Make a model's files from its weights: float32, and variants in half precision and in 8 bits."""

    variants: Annotated[tuple[Variant, ...], Field(min_length=1), AfterValidator(_each_once)] = Field(
        VARIANTS, description="float32 is always made; the others are published if they agree with it."
    )
    num_calibration_images: int = Field(
        128, ge=1, le=4096, description="Training images, at most, off which the ranges of int8 are read."
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Of the choice of images.")


def _no_id(alias: str) -> str:
    if re.match(r"^[a-z]{2,4}_[0-9a-hjkmnp-tv-z]{26}$", alias):
        raise ValueError("a name that can't be taken for an id")
    return alias


Alias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"), AfterValidator(_no_id)]


class IndexRecipe(Frozen):
    """Embed the stored images that the model has no vector for yet."""

    layer: Literal["h"] = "h"
    batch_size: int = Field(64, ge=1, le=4096)
    promote_to: Alias | None = Field(
        None,
        description="An alias, such as `production`, that is switched to the model once every image has its vector."
        " Until then it serves the model before. Uploads wait for the switch, as long as a batch takes at most.",
    )


class IngestRecipe(Frozen):
    """Validate, deduplicate and pack an uploaded archive."""

    on_invalid: Literal["reject", "skip"] = Field(
        "reject", description="reject: one file that is no image fails the data set; skip: it is listed and left out."
    )
    storage_side: int = Field(
        256, ge=32, le=1024, description="Images whose shorter side is longer are stored reduced to it."
    )


PRESETS: dict[PresetName, tuple[str, dict[str, Any]]] = {
    "cifar10": (
        (
            "CIFAR-10 as the README of the authors' first release trains it on one GPU: ResNet-18, batch 512, 1000"
            " epochs, the paper's weight decay (1e-6; later releases took 1e-4). They report about 91%"
            " (linear). 50 million images to train on: 42 minutes at 20,000 images/s."
        ),
        {
            "batch_size": 512,
            "encoder": {"name": "resnet18", "stem": "cifar"},
            "augmentation": {"color_strength": 0.5, "blur_probability": 0.0},
            "loss": {"temperature": 0.5},
            "optimizer": {"learning_rate": 1.0},
            "schedule": {"epochs": 1000},
        },
    ),
    "cifar10-resnet50": (
        (
            "The paper's CIFAR-10 setting (B.9): ResNet-50, batch 1024, 1000 epochs. It reports 94.0% (linear),"
            " supervised 95.1%. 50 million images to train on: 3.5 hours at 4,000 images/s."
        ),
        {
            "batch_size": 1024,
            "encoder": {"name": "resnet50", "stem": "cifar"},
            "augmentation": {"color_strength": 0.5, "blur_probability": 0.0},
            "loss": {"temperature": 0.5},
            "optimizer": {"learning_rate": 1.0},
            "schedule": {"epochs": 1000},
        },
    ),
    "imagenet": (
        (
            "The paper's default (Section 2.3): ResNet-50, batch 4096, 100 epochs. It reports 64.5% (linear), and 69.3%"
            " after 1000 epochs; the authors need 6 hours for 100 epochs on 32 TPU v3."
        ),
        {
            "batch_size": 4096,
            "preprocessing": {"image_size": 224, "crop_fraction": 0.875},
            "encoder": {"name": "resnet50", "stem": "imagenet"},
            "loss": {"temperature": 0.1},
            "schedule": {"epochs": 100},
        },
    ),
    "imagenet-256": (
        (
            "ImageNet with a batch for one GPU and the rate that suits it (Table B.1): ResNet-50, 100 epochs."
            " The paper reports 62.8% (linear). 128 million images to train on: 18 hours at 2,000 images/s."
        ),
        {
            "batch_size": 256,
            "preprocessing": {"image_size": 224, "crop_fraction": 0.875},
            "encoder": {"name": "resnet50", "stem": "imagenet"},
            "loss": {"temperature": 0.1},
            "optimizer": {"learning_rate": 0.075, "scaling": "sqrt"},
            "schedule": {"epochs": 100},
        },
    ),
    "vit-small": (
        (
            "ViT-S/16 by MoCo v3's settings (arXiv 2104.02057) with SimCLR's views and loss, not measured: for several"
            " GPUs. MoCo v3 itself, which adds a momentum encoder and a prediction head, has 73.2% on ImageNet (linear,"
            " its authors' code)."
        ),
        {
            "batch_size": 4096,
            "preprocessing": {"image_size": 224, "crop_fraction": 0.875},
            "encoder": {"name": "vit_small", "patch_size": 16},
            "head": {"num_layers": 3, "hidden_size": 4096, "output_size": 256},
            "loss": {"temperature": 0.2},
            "optimizer": {"name": "adamw", "learning_rate": 1.5e-4, "scaling": "linear", "weight_decay": 0.1},
            "schedule": {"epochs": 300, "warmup_epochs": 40},
        },
    ),
    "cpu-small": (
        (
            "A small ResNet on 32-pixel images for CPUs. 5,000 images of CIFAR-10 take two cores 3 minutes (1,000"
            " images/s): 50% (linear), where raw pixels have 40% and the network as it was initialised 36%."
        ),
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


def over_preset(recipe: Any) -> Any:
    """For validation: fields go over those of their preset, anything else stays as it is."""
    return with_preset(recipe) if isinstance(recipe, dict) else recipe


def pretrain_recipe(fields: dict[str, Any]) -> PretrainRecipe:
    """The recipe that `fields` describe, over its `preset` if it names one.

    Raises pydantic.ValidationError, or ValueError for an unknown preset.
    """
    return PretrainRecipe.model_validate(with_preset(fields))
