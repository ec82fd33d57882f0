"""The audit log: a row for each change that was asked for over HTTP, if it succeeded or its caller was not let.

A row is written when its change has been committed and before its answer is sent: who reads of a success finds it in
the log. A process that is killed between the two, or a database that goes away there, leaves the row out; the process's
own log has it then, unless that was killed too. What the change was about is its path, never its content.
"""

from collections import defaultdict
from typing import TypeGuard

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import Message, Scope, Send

from service.caller import Caller
from service.core.db import AWAY, Database
from service.core.keys import READ
from service.core.tables import AuditEntry
from service.rates import Bucket
from service.scopes import Operation

REFUSALS_PER_SECOND, MAX_REFUSALS = 1, 60  # rows of what a key, or all without one, were not let do; all are logged
MAX_RESOURCE = 500

log = structlog.get_logger(__name__)


def is_audited(operation: Operation | None) -> TypeGuard[Operation]:
    """Whether it is a change: some that only look are POSTs, for their bodies."""
    return operation is not None and operation.scope != READ and "GET" not in operation.methods


class Audit:
    """Writes the log of one process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._refusals: dict[str | None, Bucket] = defaultdict(lambda: Bucket(REFUSALS_PER_SECOND, MAX_REFUSALS))

    def recording(self, operation: Operation, caller: Caller, scope: Scope, send: Send) -> Send:
        """A `send` that records a success before it is told."""

        async def send_recorded(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400:
                resource = Headers(raw=message["headers"]).get("location", scope["path"])
                await self._record(operation, caller, scope, resource, message["status"])
            await send(message)

        return send_recorded

    async def record_refusal(self, operation: Operation, caller: Caller, scope: Scope, status: int) -> None:
        """Record that a caller was not let."""
        if not self._refusals[caller.key_id].take():
            await self._record(operation, caller, scope, scope["path"], status)

    async def _record(self, operation: Operation, caller: Caller, scope: Scope, resource: str, status: int) -> None:
        entry = AuditEntry(
            tenant=caller.tenant or None,
            key_id=caller.key_id,
            action=operation.name,
            resource=resource.replace("\0", "\N{REPLACEMENT CHARACTER}")[:MAX_RESOURCE],  # which PostgreSQL can't store
            request_id=scope["state"]["request_id"],
            status=status,
        )
        try:
            await run_in_threadpool(self._write, entry)
        except AWAY as error:
            log.error("audit_failed", action=entry.action, resource=entry.resource, status=status, error=str(error))  # noqa: TRY400  # a line, not a traceback

    def _write(self, entry: AuditEntry) -> None:
        with self._database.transaction() as session:
            session.add(entry)
