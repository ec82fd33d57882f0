"""Which nodes have room for a gang: the slots of one kind on the live nodes, counted down while jobs are placed."""

from collections.abc import Mapping, Sequence
from typing import Self

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.core.gang import Gang
from service.core.tables import Node, Placement


class Room:
    """Free slots by name of a live node."""

    def __init__(self, nodes: Sequence[Node], slot: str, used: Mapping[str, int]) -> None:
        self.nodes = list(nodes)
        self.slots = {node.name: int(node.slots.get(slot, 0)) for node in nodes}
        self.free = {name: number - used.get(name, 0) for name, number in self.slots.items()}

    @classmethod
    def of(cls, session: Session, nodes: Sequence[Node], slot: str) -> Self:
        """What open placements leave of the nodes' slots of a kind."""
        statement = select(Placement.node_name, func.sum(Placement.num_slots))
        statement = statement.where(Placement.ended_at.is_(None), Placement.slot == slot)
        return cls(nodes, slot, dict(session.execute(statement.group_by(Placement.node_name)).all()))

    def is_left(self) -> bool:
        """Whether any slot is free."""
        return any(number > 0 for number in self.free.values())

    def choose(self, gang: Gang) -> list[Node]:
        """As many nodes as the gang may have, freest first; none if it must wait.

        A gang of several processes meets at its first node, which has a port for that.
        """
        fitting = [node for node in self._freest_first() if self.free[node.name] >= gang.processes_per_node]
        numbers = gang.numbers_of_nodes(len(fitting))
        if not numbers:
            return []
        chosen = fitting[: numbers[-1]]
        if len(chosen) * gang.processes_per_node == 1:
            return chosen
        first = next((node for node in chosen if node.rendezvous_port is not None), None)
        return [] if first is None else [first, *(node for node in chosen if node is not first)]

    def take(self, chosen: Sequence[Node], processes_per_node: int) -> None:
        """Count the slots as used."""
        for node in chosen:
            self.free[node.name] -= processes_per_node

    def could_grow(self, gang: Gang, held: Sequence[str]) -> bool:
        """Whether a gang would get more nodes than it holds, by name, if it gave these back."""
        fitting = [
            node
            for node in self.nodes
            if self.free[node.name] + gang.processes_per_node * (node.name in held) >= gang.processes_per_node
        ]
        numbers = gang.numbers_of_nodes(len(fitting))
        return bool(numbers) and numbers[-1] > len(held)

    def keep_for(self, gang: Gang) -> bool:
        """Keep for a gang that must wait what it will need: nobody else gets it. False if it has to wait for new nodes.

        These are the fewest nodes it can do with, freest first: among them is each one that could take its part now.
        """
        large_enough = [node for node in self._freest_first() if self.slots[node.name] >= gang.processes_per_node]
        numbers = gang.numbers_of_nodes(len(large_enough))
        for node in large_enough[: numbers[0]] if numbers else ():
            self.free[node.name] = 0
        return bool(numbers)

    def what_is_missing(self, gang: Gang, slot: str) -> str | None:
        """What a gang would wait for in vain, if nothing changed but that all slots were free."""
        large_enough = [node for node in self.nodes if self.slots[node.name] >= gang.processes_per_node]
        if not gang.numbers_of_nodes(len(large_enough)):
            return (
                f"it waits for {gang.min_nodes} live workers of {gang.processes_per_node} {slot} slots each;"
                " start workers, raise SIMCLR_NUM_CPU_SLOTS or add GPUs (GET /v1/system shows what there is)"
            )
        if gang.has_company and all(node.rendezvous_port is None for node in large_enough):
            return "none of the workers it could start on has a free port in SIMCLR_RENDEZVOUS_PORTS; it waits for one"
        return None

    def _freest_first(self) -> list[Node]:
        return sorted(self.nodes, key=lambda node: -self.free[node.name])
