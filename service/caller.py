"""Who makes a request: a tenant, by a key."""

from dataclasses import dataclass

from service.core.keys import ADMIN, SCOPES
from service.core.quotas import Limits
from service.core.tables import DEFAULT_TENANT


@dataclass(frozen=True)
class Caller:
    """A tenant, and what it may do in this request."""

    tenant: str
    key_id: str | None
    scopes: frozenset[str]
    limits: Limits

    def may(self, scope: str) -> bool:
        """Whether its key has a scope; `admin` has all, and none of the others has another."""
        return scope in self.scopes or ADMIN in self.scopes


NOBODY = Caller("", None, frozenset(), Limits())  # may ask for what needs no key; no row is of this tenant


def owner(limits: Limits) -> Caller:
    """Everyone, where no keys are required."""
    return Caller(DEFAULT_TENANT, None, frozenset(SCOPES), limits)
