"""Parameters as tests ask for them: of one operation, or as named tensors."""

from typing import Any, TypeVar

import torch

from models.config import Augmentation
from trainer.augment import ViewParameters, sample_parameters
from trainer.augment.operation import Operation

Kind = TypeVar("Kind", bound=Operation)


def pick(parameters: ViewParameters, kind: type[Kind]) -> Kind:
    """The one operation of its kind."""
    (operation,) = [operation for operation in parameters.operations if isinstance(operation, kind)]
    return operation


def draw(kind: type[Kind], name: str, num_images: int, *, size: int = 32, **config: Any) -> Kind:
    """The parameters of the operation called `name`, alone in a recipe, for views of `size` pixels."""
    sizes = torch.full((num_images,), 40)
    recipe = Augmentation(operations=(name,), **config)
    return pick(sample_parameters(recipe, sizes, sizes, size, seed=11, step=12), kind)


def tensors(parameters: ViewParameters) -> dict[str, torch.Tensor]:
    """Everything that is drawn, by operation and field."""
    operations = {type(operation).__name__: operation for operation in parameters.operations}
    parts: dict[str, Operation] = {"start": parameters.start, **operations}
    return {f"{part}.{name}": value for part, fields in parts.items() for name, value in vars(fields).items()}


def noise_images(num_views: int, size: int, *, seed: int = 0) -> torch.Tensor:
    """Planes (3, V, S, S) of uniform noise in float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((3, num_views, size, size), dtype=torch.float64, generator=generator)
