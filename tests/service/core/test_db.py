"""A database that is bound to a tenant."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.orm import Session, aliased

from service.core.db import Database, tenant_of
from service.core.ids import new_id
from service.core.tables import Collection, CollectionImage, Image, Owned

THEIRS = "0" * 64


@pytest.fixture
def other(database: Database) -> str:
    """The id of a collection of another tenant, which has an image."""
    with database.of("theirs").transaction() as session:
        collection = Collection(id=new_id("col"), name="pets")
        session.add_all([collection, Image(id=THEIRS, key="k", format="png", width=1, height=1, num_bytes=1)])
        session.flush()
        session.add(CollectionImage(collection_id=collection.id, image_id=THEIRS, metadata_={}))
    return collection.id


MEMBER = aliased(CollectionImage, name="c")
LOOKS: dict[str, Callable[[Session, str], Any]] = {
    "get": lambda session, id_: session.get(Collection, id_),
    "get to update": lambda session, id_: session.get(Collection, id_, with_for_update=True, populate_existing=True),
    "entity": lambda session, id_: session.scalar(select(Collection).where(Collection.id == id_)),
    "column": lambda session, _: session.scalar(select(Collection.name)),
    "count": lambda session, _: session.scalar(select(func.count()).select_from(Image)),
    "counted column": lambda session, _: session.scalar(select(func.count()).where(Image.id == THEIRS)),
    "join with an alias": lambda session, _: session.execute(
        select(Image.id, MEMBER.label).join(MEMBER, MEMBER.image_id == Image.id)
    ).first(),
    "alias alone": lambda session, _: session.scalar(select(MEMBER.image_id)),
    "subquery": lambda session, id_: session.scalar(
        select(func.count()).where(Collection.id.in_(select(CollectionImage.collection_id)))
    ),
    "exists": lambda session, _: session.scalar(select(exists().where(Collection.name == "pets"))),
    "exists of a deletion": lambda session, _: session.scalar(
        delete(Image).where(exists().where(CollectionImage.image_id == Image.id)).returning(Image.id)
    ),
    "query": lambda session, _: session.query(Image).filter(Image.id == THEIRS).first(),
    "update": lambda session, _: session.scalar(update(Collection).values(name="mine").returning(Collection.id)),
    "delete": lambda session, _: session.scalar(delete(Image).where(Image.id == THEIRS).returning(Image.key)),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_no_statement_reaches_another_tenant(
    database: Database, other: str, look: Callable[[Session, str], Any]
) -> None:
    """Whatever a statement forgets: it finds, changes and deletes nothing of theirs, and the same of their own does."""
    with database.of("ours").transaction() as session:
        assert not look(session, other)
    with database.of("theirs").transaction() as session:
        assert look(session, other)


def test_new_rows_are_the_tenants(database: Database) -> None:
    """Without anyone saying so; one that is made for another tenant is a mistake of ours."""
    with database.of("ours").transaction() as session:
        session.add(Collection(id="col_1", name="a"))
        session.flush()
        assert session.scalars(select(Collection.tenant)).all() == ["ours"]
        session.add(Collection(id="col_2", name="b", tenant="theirs"))
        with pytest.raises(AssertionError):
            session.flush()
        session.expunge_all()


def test_an_unbound_session_has_no_tenant_to_give(postgres_url: str) -> None:
    """What would write a tenant's row with it fails, and doesn't give it to anyone."""
    database = Database(postgres_url)
    with database.transaction() as session, pytest.raises(KeyError):
        tenant_of(session)
    database.close()


def test_every_table_with_an_owner_has_it_in_its_names(database: Database) -> None:
    """A name that a tenant gives is unique among its own: no constraint tells it what others have."""
    for mapper in Owned.__subclasses__():
        for constraint in mapper.__table__.constraints | mapper.__table__.indexes:  # type: ignore[attr-defined]  # each is mapped
            columns = {column.name for column in constraint.columns}
            if columns & {"name", "idempotency_key"} and getattr(constraint, "unique", True):
                assert "tenant" in columns, constraint
