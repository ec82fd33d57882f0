"""API keys: made, found by their secret, listed and revoked.

A secret is 32 random bytes, and the table has its sha256 alone. It is found by an index on that digest: with 256
random bits nothing can be learned from how long that takes, so no comparison has to take constant time, and no slow
hash is needed as for passwords.
"""

import base64
import hashlib
import re
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from service.core.errors import Invalid, NotFound
from service.core.ids import new_id
from service.core.quotas import Limits
from service.core.tables import TENANT_PATTERN, ApiKey

READ, WRITE, TRAIN, ADMIN = SCOPES = ("read", "write", "train", "admin")
SECRET_PATTERN = re.compile(r"sk_[A-Za-z0-9_-]{43}")
SHOWN_CHARACTERS = 8
LAST_USED_SECONDS = 60  # how exact `last_used_at` is: a key costs a write a minute, not a write a request


class NewKey(NamedTuple):
    """A key's row and its secret, which nobody can see again."""

    row: ApiKey
    secret: str


def create_key(
    session: Session,
    *,
    tenant: str,
    name: str,
    scopes: Sequence[str],
    limits: Limits | None = None,
    expires_at: datetime | None = None,
) -> NewKey:
    """A new key. Raises Invalid for a tenant's name or a scope that can't be, or an expiry that has passed."""
    if not re.match(TENANT_PATTERN, tenant):
        raise _invalid("tenant", f"up to 63 of a-z, 0-9, _ and -, not {tenant!r}")
    if not scopes or not set(scopes) <= set(SCOPES):
        raise _invalid("scopes", f"some of {', '.join(SCOPES)}, not {', '.join(scopes) or 'none'}")
    if expires_at is not None and session.scalar(select(func.now() >= expires_at)):
        raise _invalid("expires_at", "in the future")
    secret = "sk_" + base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
    row = ApiKey(
        id=new_id("key"),
        tenant=tenant,
        name=name,
        secret_sha256=digest_of(secret),
        prefix=secret[:SHOWN_CHARACTERS],
        scopes=[scope for scope in SCOPES if scope in scopes],
        limits=(limits or Limits()).model_dump(exclude_none=True),
        expires_at=expires_at,
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    return NewKey(row, secret)


def digest_of(secret: str) -> str:
    """What the table has of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def find_key(session: Session, secret_sha256: str) -> ApiKey | None:
    """The key of a secret, be it valid or not, and note that it was used."""
    key = session.scalar(select(ApiKey).where(ApiKey.secret_sha256 == secret_sha256))
    if key is not None:
        age = func.extract("epoch", func.now() - ApiKey.last_used_at)
        is_old = ApiKey.last_used_at.is_(None) | (age > LAST_USED_SECONDS)
        session.execute(update(ApiKey).where(ApiKey.id == key.id, is_old).values(last_used_at=func.now()))
    return key


def revoke_key(session: Session, key_id: str) -> ApiKey:
    """Have a key be refused from now on; nothing changes if it is already. Raises NotFound."""
    key = session.get(ApiKey, key_id, with_for_update=True)
    if key is None:
        raise NotFound(f"there is no key {key_id}")
    if key.revoked_at is None:
        key.revoked_at = func.now()
        session.flush()
        session.refresh(key)
    return key


def has_live_key(session: Session) -> bool:
    """Whether any key can be used."""
    live = ApiKey.revoked_at.is_(None) & (ApiKey.expires_at.is_(None) | (ApiKey.expires_at > func.now()))
    return session.scalar(select(ApiKey.id).where(live).limit(1)) is not None


def _invalid(field: str, message: str) -> Invalid:
    return Invalid(f"{field}: {message}", errors=[{"field": field, "message": message}])
