"""Fine-tuning: what it is told, and which labels it gets. No torch: the API asks it too."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from models.config import Frozen
from models.probing import NUM_NAMED, training_counts

FEW_LABELS = 0.01
EPOCHS_OF_FEW, EPOCHS = 60, 30


def _epochs(fields: dict[str, Any]) -> int:
    return EPOCHS_OF_FEW if fields["label_fraction"] <= FEW_LABELS else EPOCHS


class FinetuneRecipe(Frozen):
    """Train the encoder and a linear classifier on h, from zero, together on a part of the labels (B.5).

    Nesterov SGD with momentum 0.9, no weight decay, a cosine to 0 without warm-up; random crops with flips alone.
    """

    label_fraction: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Of each class's training images: the paper has 0.01 and 0.1. With the same seed a smaller part is"
        " within a larger one.",
    )
    epochs: int = Field(
        default_factory=_epochs,
        ge=1,
        le=100_000,
        description=f"Default: {EPOCHS_OF_FEW} for up to 1% of the labels, else {EPOCHS}. That is the paper's for 1%"
        " and 10%; for more it has none.",
    )
    batch_size: int = Field(
        256,
        ge=2,
        le=65_536,
        description="At most the labelled images. The paper's is 4096; the rate goes with it.",
    )
    learning_rate: float = Field(
        0.05, gt=0, le=1000, description="B.5. The peak is this times the batch size over 256."
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Of the labels' choice, the batches and the crops.")


def num_labels(num_images: int, fraction: float) -> int:
    """How many of a class's training images have a label."""
    return round(fraction * num_images)


def label_obstacle(classes: Sequence[str], splits: Mapping[str, Mapping[str, Any]], fraction: float) -> str | None:
    """Why a data set has too few images for this part of its labels, or None: each class needs one.

    `splits` are as for `probe_obstacle`. Classes without training images do no harm.
    """
    counts = dict(zip(classes, training_counts(classes, splits), strict=True))
    without = [
        f"{name!r} has {number}" for name, number in counts.items() if number and not num_labels(number, fraction)
    ]
    if not without:
        return None
    named = ", ".join(without[:NUM_NAMED]) + (", ..." if len(without) > NUM_NAMED else "")
    least = 0.5 / min(number for number in counts.values() if number)
    return f"more than {least:.6g}, for an image of each class, not {fraction}; of training images {named}"
