"""This worker's row in the database: what it can run, and that it is alive."""

import shutil
from importlib.metadata import PackageNotFoundError, version
from platform import python_version
from typing import Any

import structlog
from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.orm import Session

from service.core.tables import Node, Placement
from trainer.devices import cpu
from trainer.host import Host
from trainer.network import PortOffers, own_address

HEARTBEATS_A_LEASE = 4

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


class Presence:
    """Keeps the node's row fresh until the worker is to stop, then deletes it: nothing more is placed here."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._ports = PortOffers(host.settings.rendezvous_ports, host.settings.node_name)
        gpus = host.gpus.devices
        self.columns: dict[str, Any] = {
            "slots": {
                "cpu": host.settings.num_cpu_slots,
                "cuda": len(gpus),
                "light": host.settings.num_light_slots,
            },
            "devices": {
                "cpu": cpu(),
                "cuda": [{"name": gpu.name, "memory_bytes": gpu.memory_bytes} for gpu in gpus],
            },
            "versions": versions(),
        }

    def run(self) -> None:
        """Announce the node, then beat."""
        write = self._announce
        while not self.host.stopping.is_set():
            try:
                with self.host.database.transaction() as session:
                    write(session)
                write = self._beat
            except (DBAPIError, NoConnection, OSError) as error:  # OSError: the database's name isn't known just now
                logger.warning("heartbeat missed", error=str(error.__cause__ or error))
            self.host.stopping.wait(self.host.settings.lease_seconds / HEARTBEATS_A_LEASE)
        self._leave()

    def _announce(self, session: Session) -> None:
        columns = {**self.columns, "started_at": func.now()}
        self._write(session, columns)
        self._remove_old_runs(session)

    def _beat(self, session: Session) -> None:
        self._write(session, {**self.columns})

    def _write(self, session: Session, columns: dict[str, Any]) -> None:
        """Insert or update the whole row: the scheduler deletes rows of nodes that were away for long."""
        columns |= {"heartbeat_at": func.now(), "rendezvous_port": self._ports.next()}
        columns |= {"address": own_address(self.host.settings)}
        row = insert(Node).values(name=self.host.settings.node_name, **columns)
        session.execute(row.on_conflict_do_update(index_elements=["name"], set_=columns))

    def _remove_old_runs(self, session: Session) -> None:
        """Remove the run folders that killed workers have left here: this one, and those of names that are gone."""
        placements = select(Placement.node_name, Placement.job_id, Placement.attempt).where(
            Placement.ended_at.is_(None)
        )
        kept = {(node, job_id, str(attempt)) for node, job_id, attempt in session.execute(placements)}
        others = set(session.scalars(select(Node.name))) - {self.host.settings.node_name}
        for node in (folder for folder in self.host.settings.runs_dir("").glob("*") if folder.name not in others):
            for run in node.glob("*/*"):
                if run.is_dir() and (node.name, run.parent.name, run.name) not in kept:
                    shutil.rmtree(run, ignore_errors=True)

    def _leave(self) -> None:
        try:
            with self.host.database.transaction() as session:
                session.execute(delete(Node).where(Node.name == self.host.settings.node_name))
        except (DBAPIError, NoConnection) as error:
            logger.warning("node not withdrawn", error=str(error.__cause__ or error))


def versions() -> dict[str, str]:
    """Versions of Python and of what the node runs; torch is looked up, not imported."""
    found = {"python": python_version()}
    for name in ("simclr-service", "torch", "onnxruntime"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
