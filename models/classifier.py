"""A linear classifier on a layer of a model, as a file: what a probe leaves and the API serves. No torch.

Legend: M images, D size of the layer, K classes.

    head.npz    weight (K, D), bias (K,) float32; classes (K,), layer text
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

HEAD_FILE = "head.npz"


@dataclass(frozen=True)
class Classifier:
    """Multinomial logistic regression on a layer's output."""

    weight: NDArray[np.float32]  # (K, D)
    bias: NDArray[np.float32]  # (K,)
    classes: tuple[str, ...]  # what the K rows stand for
    layer: str

    def probabilities(self, h: NDArray[np.float32]) -> NDArray[np.float64]:
        """The softmax of the logits: (M, D) float32 -> (M, K), rows that sum to 1."""
        logits = (h @ self.weight.T + self.bias).astype(np.float64)  # (M, K)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))  # no overflow, however large the logits
        probabilities: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
        return probabilities

    def save(self, path: Path) -> None:
        """Write the file."""
        np.savez(path, weight=self.weight, bias=self.bias, classes=np.array(self.classes), layer=np.array(self.layer))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file; nothing in it is executed."""
        with np.load(path, allow_pickle=False) as file:
            return cls(file["weight"], file["bias"], tuple(file["classes"].tolist()), file["layer"].item())
