"""What a job asks for: so many nodes, so many processes on each, which share every batch evenly."""

from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Gang:
    """The processes of one attempt: all of them run, or none does."""

    min_nodes: int = 1
    max_nodes: int = 1
    processes_per_node: int = 1
    batch_size: int | None = None  # images a step, of a job that trains

    @classmethod
    def of(cls, resources: dict[str, Any], recipe: dict[str, Any]) -> Self:
        """As the columns of a job say it; what they leave out is 1."""
        nodes = resources.get("nodes", {})
        min_nodes = nodes.get("min", 1)
        return cls(
            min_nodes=min_nodes,
            max_nodes=nodes.get("max", min_nodes),
            processes_per_node=resources.get("processes_per_node", 1),
            batch_size=recipe.get("batch_size"),
        )

    @property
    def has_company(self) -> bool:
        """Whether it is always more than one process."""
        return self.min_nodes * self.processes_per_node > 1

    def numbers_of_nodes(self, available: int) -> list[int]:
        """How many nodes it may have of those available, fewest first: from min to max, and such as split the batch."""
        numbers = range(self.min_nodes, min(self.max_nodes, available) + 1)
        return [number for number in numbers if self._splits_the_batch(number)]

    def _splits_the_batch(self, num_nodes: int) -> bool:
        return self.batch_size is None or self.batch_size % (num_nodes * self.processes_per_node) == 0
