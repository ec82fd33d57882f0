"""Filters in PostgreSQL, against their definition in Python."""

import itertools
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from sqlalchemy import text

from service.core.db import Database
from service.core.filters import Filter
from service.core.members import count_members, members_of
from service.core.tables import CollectionImage
from tests.service.core.stored_images import add_images, image_ids

FILTER: TypeAdapter[Any] = TypeAdapter(Filter)

NUMBERS = [0, -0.0, 1, 1.0, 1.5, -3, 2**53 + 1, float(2**53), 10**23, 1e23, 1e308]
TEXTS = [
    "",
    "1",
    "true",
    "null",
    "a",
    "B",
    "Z",
    "ä",
    "é",
    "\ue000",
    "\U0001f600",
    "a'); drop table image; --",
    "%s",
    ":x",
]
SCALARS = [*NUMBERS, *TEXTS, True, False, None]
KEYS = ["a", "b", "label", "key with 'quotes' \"", "%(x)s", "\U0001f600"]

fields = st.sampled_from(["label", *(f"metadata.{key}" for key in KEYS)])
bounds = st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), st.sampled_from(NUMBERS), min_size=1) | (
    st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), st.sampled_from(TEXTS), min_size=1)
)
leaves = st.one_of(
    st.builds(lambda f, v: {"op": "equals", "field": f, "value": v}, fields, st.sampled_from(SCALARS)),
    st.builds(
        lambda f, v: {"op": "in", "field": f, "values": v},
        fields,
        st.lists(st.sampled_from(SCALARS), min_size=1, max_size=4),
    ),
    st.builds(lambda f, b: {"op": "range", "field": f, **b}, fields, bounds),
    st.builds(lambda f: {"op": "exists", "field": f}, fields),
)
filters = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(
            lambda op, parts: {"op": op, "filters": parts},
            st.sampled_from(["and", "or"]),
            st.lists(inner, min_size=1, max_size=3),
        ),
        st.builds(lambda part: {"op": "not", "filter": part}, inner),
    ),
    max_leaves=6,
)


def typed(value: Any) -> tuple[str, Any]:
    """A scalar with its JSON type; numbers by their decimal digits, texts by their code points."""
    if value is None or isinstance(value, bool):
        return str(type(value)), value
    return ("text", value) if isinstance(value, str) else ("number", Decimal(str(value)))


def holds(condition: dict[str, Any], label: str | None, metadata: dict[str, Any]) -> bool:
    """Whether a filter holds, as service/core/filters.py says it."""
    match condition["op"]:
        case "and":
            return all(holds(part, label, metadata) for part in condition["filters"])
        case "or":
            return any(holds(part, label, metadata) for part in condition["filters"])
        case "not":
            return not holds(condition["filter"], label, metadata)
    fields = {f"metadata.{key}": value for key, value in metadata.items()}
    if label is not None:
        fields["label"] = label
    name = condition["field"]
    return name in fields and leaf_holds(condition, *typed(fields[name]))


def leaf_holds(condition: dict[str, Any], type_: str, value: Any) -> bool:
    """Whether a condition holds for a field's value."""
    match condition["op"]:
        case "equals":
            return (type_, value) == typed(condition["value"])
        case "in":
            return (type_, value) in [typed(other) for other in condition["values"]]
        case "range":
            tests = {"gt": "__gt__", "gte": "__ge__", "lt": "__lt__", "lte": "__le__"}
            limits = [(tests[at], typed(condition[at])) for at in tests if at in condition]
            return all(type_ == limit[0] and getattr(value, test)(limit[1]) for test, limit in limits)
    return True  # it exists


def test_a_filter_finds_what_it_says(database: Database) -> None:
    """Every filter finds just the images that the definition finds, and nobody's quotes leave their place."""
    ids = image_ids(240)
    scalars, labels = itertools.cycle(SCALARS), itertools.cycle([None, *TEXTS[:10]])
    notes = [{key: next(scalars) for j, key in enumerate(KEYS) if (i >> j) & 1} for i in range(240)]
    members = [(id_, next(labels) or None, note) for id_, note in zip(ids, notes, strict=True)]
    with database.transaction() as session:
        collection = add_images(session, ids)
        add_images(session, ids, name="others")
        for id_, label, note in members:
            row = session.get_one(CollectionImage, (collection, id_))
            row.label, row.metadata_ = label, note
        session.flush()

        @settings(max_examples=300, deadline=None)
        @given(filters)
        def check(condition: dict[str, Any]) -> None:
            found = members_of(collection, FILTER.validate_python(condition))
            statement = text(f"select image_id from collection_image c where {found.where}")
            expected = {id_ for id_, label, note in members if holds(condition, label, note)}
            assert set(session.scalars(statement, found.parameters)) == expected

        check()


def test_counting_stops(database: Database) -> None:
    """Members are counted up to a limit, of one collection only."""
    ids = image_ids(30)
    with database.transaction() as session:
        pets, _ = add_images(session, ids[:20]), add_images(session, ids, name="all")
        assert [count_members(session, members_of(pets), at_most) for at_most in (7, 20, 99)] == [7, 20, 20]
