"""Who asks, and whether they may: settled before a byte of the body is read, so that a refusal costs next to nothing.

A key comes in the header `Authorization: Bearer sk_…` and nowhere else: addresses are logged, and remembered by
browsers. Below /v1/ every request needs one, with the scope of its operation (service/scopes.py).
"""

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from service import problems
from service.audit import is_audited
from service.caller import NOBODY, Caller, owner
from service.core.errors import Forbidden, ServiceError, Unauthenticated
from service.core.quotas import Limits
from service.core.settings import Settings
from service.deps import Services
from service.keyring import Refused
from service.rates import Rates
from service.scopes import PREFIX, Operation, Operations

CHALLENGE = {"WWW-Authenticate": "Bearer"}
WITHOUT_DATABASE = {"create_embeddings"}  # operations that a model in memory answers
HOW = "send the header `Authorization: Bearer sk_…`; `simclr keys create` makes a key"

log = structlog.get_logger(__name__)


class Authentication:
    """Answers 401, 403 and 429; who comes through is `caller` in the request's state, and what for `operation`."""

    def __init__(self, app: ASGIApp, settings: Settings, operations: Operations) -> None:
        self.app = app
        self._operations = operations
        self._owner = owner(Limits().over(settings)) if settings.auth == "off" else None
        self._rates = Rates()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        services: Services = scope["app"].state.services
        operation = self._operations.find(scope)
        caller = NOBODY
        try:
            caller = await self._caller(scope, services, operation)
            self._rates.check(caller)
            _check_scope(caller, operation)
        except ServiceError as error:
            caller = error.caller if isinstance(error, Refused) else caller
            await self._refuse(error, caller, operation, scope, receive, send)
            return
        scope["state"] |= {"caller": caller, "operation": operation}
        structlog.contextvars.bind_contextvars(tenant=caller.tenant, key_id=caller.key_id)
        if is_audited(operation):
            send = services.audit.recording(operation, caller, scope, send)
        await self.app(scope, receive, send)

    async def _caller(self, scope: Scope, services: Services, operation: Operation | None) -> Caller:
        if self._owner is not None:
            return self._owner
        if not scope["path"].startswith(PREFIX):
            return NOBODY
        needs_database = operation is None or operation.name not in WITHOUT_DATABASE
        return await services.keyring.caller(bearer_secret(scope), needs_database=needs_database)

    @staticmethod
    async def _refuse(
        error: ServiceError, caller: Caller, operation: Operation | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if isinstance(error, Unauthenticated | Forbidden):  # not one of many that come too fast
            about = {"tenant": caller.tenant, "key_id": caller.key_id, "code": error.code}
            log.warning("refused", method=scope["method"], path=scope["path"], **about)
            if is_audited(operation):
                services: Services = scope["app"].state.services
                await services.audit.record_refusal(operation, caller, scope, error.status)
        headers = CHALLENGE if isinstance(error, Unauthenticated) else {}
        await problems.respond(error, headers)(scope, receive, send)


def bearer_secret(scope: Scope) -> str:
    """What a request gives as its key. Raises Unauthenticated."""
    given: list[bytes] = [value for name, value in scope["headers"] if name == b"authorization"]
    if not given:
        raise Unauthenticated(f"this needs a key: {HOW}")
    if len(given) > 1:
        raise Unauthenticated(f"there are {len(given)} headers Authorization; {HOW}")
    scheme, _, secret = given[0].decode("latin-1").partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated(f"the header Authorization has another scheme than Bearer; {HOW}")
    return secret.strip(" ")


def _check_scope(caller: Caller, operation: Operation | None) -> None:
    if operation is not None and not caller.may(operation.scope):
        has = ", ".join(sorted(caller.scopes))
        raise Forbidden(f"this needs a key with the scope `{operation.scope}`; this one has {has}")
