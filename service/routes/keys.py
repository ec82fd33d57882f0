"""API keys: made, listed and revoked by a key with the scope `admin`, for its own tenant."""

from fastapi import APIRouter, Response
from sqlalchemy import select

from service.core.errors import Forbidden, NotFound
from service.core.keys import ADMIN, create_key, revoke_key
from service.core.quotas import Limits
from service.core.tables import ApiKey
from service.deps import CallerDep, ServicesDep, SessionDep
from service.refusals import may
from service.schemas.keys import CreatedKey, KeyId, KeyOut, NewKey
from service.schemas.links import created, links_to, listed
from service.schemas.page import IdCursor, Limit, Page, read_rows
from service.scopes import requires

router = APIRouter(prefix="/v1/keys", tags=["keys"])


@router.post(
    "", name="create_key", status_code=201, responses=created(201, links_to("key_id", "get_key", "revoke_key"))
)
@requires(ADMIN)
def make_key(new: NewKey, response: Response, session: SessionDep, caller: CallerDep) -> CreatedKey:
    """Make a key. Its secret is in this answer and never again.

    To replace a key: make another, give it to the programs, then revoke the old one; both are valid meanwhile.
    """
    limits = new.limits if caller.key_id is None else _within(new.limits, caller.limits)
    made = create_key(
        session,
        tenant=caller.tenant,
        name=new.name,
        scopes=new.scopes,
        limits=limits,
        expires_at=new.expires_at,
    )
    response.headers["Location"] = f"/v1/keys/{made.row.id}"
    response.headers["Cache-Control"] = "no-store"
    return CreatedKey(**KeyOut.model_validate(made.row).model_dump(), secret=made.secret)


def _within(limits: Limits, own: Limits) -> Limits:
    """The limits with those of the caller's key where there is none. Raises Forbidden for a wider one."""
    filled = Limits(**{**own.model_dump(exclude_none=True), **limits.model_dump(exclude_none=True)})
    if wider := filled.exceeding(own):
        raise Forbidden(f"limits: {', '.join(wider)}: at most those of your own key")
    return filled


@router.get("", responses=listed("key_id", "get_key"))
@requires(ADMIN)
def list_keys(session: SessionDep, cursor: IdCursor = None, limit: Limit = 50) -> Page[KeyOut]:
    """All keys, newest first, those that are not valid any more too."""
    rows, following = read_rows(session, select(ApiKey), ApiKey.id, cursor=cursor, limit=limit)
    return Page[KeyOut](items=[KeyOut.model_validate(row) for row in rows], next=following)


@router.get("/{key_id}", responses=may(404))
@requires(ADMIN)
def get_key(key_id: KeyId, session: SessionDep) -> KeyOut:
    """A key."""
    key = session.get(ApiKey, key_id)
    if key is None:
        raise NotFound(f"there is no key {key_id}")
    return KeyOut.model_validate(key)


@router.delete("/{key_id}", name="revoke_key", responses=may(404))
@requires(ADMIN)
def delete_key(key_id: KeyId, services: ServicesDep) -> KeyOut:
    """Revoke a key: other processes of the API refuse it within 10 seconds, this one from now on. It stays listed."""
    with services.database.transaction() as session:
        key = revoke_key(session, key_id)
    services.keyring.forget(key_id)
    return KeyOut.model_validate(key)
