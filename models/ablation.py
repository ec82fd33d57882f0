"""Ablations: one pretraining recipe with some of its fields varied over a grid, as the paper's tables and figures do.

Nothing here imports torch: the API validates recipes with these classes too.
"""

import copy
import itertools
import math
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from models.config import Frozen, LinearProbeRecipe, PretrainRecipe, over_preset

MAX_RUNS = 512  # pretraining runs of one ablation
MAX_FIELDS = 4

Cell = dict[str, Any]  # a value for each field of the grid
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class AblationRecipe(Frozen):
    """Pretrain with every combination of some fields' values and every seed, and probe each: mean and spread."""

    base: Annotated[PretrainRecipe, BeforeValidator(over_preset)] = Field(
        PretrainRecipe(), description="The recipe that is varied; `base.preset` names one that it is over."
    )
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        min_length=1,
        max_length=MAX_FIELDS,
        description='Values by field: {"loss.temperature": [0.1, 0.5], "loss.normalize": [true, false]}. A value may be'
        ' a list: {"augmentation.operations": [["crop"], ["crop", "color_jitter"]]}.',
    )
    seeds: tuple[Seed, ...] = Field(
        (0,), min_length=1, max_length=16, description="Each combination is pretrained once with each."
    )
    probe: LinearProbeRecipe = Field(LinearProbeRecipe(), description="What measures each model.")

    @model_validator(mode="after")
    def _every_run_is_a_recipe(self) -> Self:
        num_runs = math.prod(map(len, self.grid.values())) * len(self.seeds)
        if num_runs > MAX_RUNS:
            raise ValueError(f"grid: at most {MAX_RUNS} pretraining runs (combinations times seeds), not {num_runs}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: each once")
        if "seed" in self.grid:
            raise ValueError("grid: not the seed; give `seeds`, over which mean and spread are taken")
        for cell in self.cells():
            self.recipe(cell, self.seeds[0])
        return self

    def cells(self) -> list[Cell]:
        """Every combination of the fields' values, the last field's varying fastest."""
        return [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]

    def recipe(self, cell: Cell, seed: int) -> PretrainRecipe:
        """The recipe of one run. Raises ValueError that names the field at fault."""
        fields = copy.deepcopy(self.base.model_dump(mode="json"))
        for path, value in {**cell, "seed": seed}.items():
            *parents, name = path.split(".")
            holder = fields
            for parent in parents:
                holder = _inside(holder, parent, path)
            _inside(holder, name, path)
            holder[name] = value
        try:
            return PretrainRecipe.model_validate(fields)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise ValueError(f"grid: with {cell}: {field}: {first['msg']}" if field else first["msg"]) from error


def _inside(holder: Any, name: str, path: str) -> Any:
    if not isinstance(holder, Mapping) or name not in holder or path == "preset":
        raise ValueError(f"grid: fields of a pretraining recipe such as loss.temperature, not {path!r}")
    return holder[name]
