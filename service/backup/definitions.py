"""The statements that make a table, as PostgreSQL's own catalogue has them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import psycopg

Connection = psycopg.Connection[Any]

TABLE = """
    select format(
        'create table %%I (%%s)%%s',
        relname,
        string_agg(
            format('%%I %%s', attname, format_type(atttypid, atttypmod))
            || case when attnotnull then ' not null' else '' end
            || coalesce(' default ' || pg_get_expr(adbin, adrelid), ''),
            ', ' order by attnum
        ),
        ' with (' || array_to_string(reloptions, ', ') || ')'
    )
    from pg_class
    join pg_attribute on attrelid = pg_class.oid and attnum > 0 and not attisdropped
    left join pg_attrdef on adrelid = attrelid and adnum = attnum
    where pg_class.oid = to_regclass(%s)
    group by relname, reloptions
"""
CONSTRAINTS = """
    select format('alter table %%s add constraint %%I %%s', conrelid::regclass, conname, pg_get_constraintdef(oid))
    from pg_constraint where conrelid = to_regclass(%s) and contype <> 'n' order by contype desc, conname
"""
INDEXES = """
    select pg_get_indexdef(indexrelid) from pg_index
    where indrelid = to_regclass(%s) and indisvalid
        and not exists (select from pg_constraint where conindid = indexrelid and contype <> 'f')
    order by indexrelid::regclass::text
"""
LINKS = """
    select
        format('alter table %%s drop constraint %%I', conrelid::regclass, conname),
        format('alter table %%s add constraint %%I %%s', conrelid::regclass, conname, pg_get_constraintdef(oid))
    from pg_constraint where contype = 'f' and conrelid = any (%s::regclass[])
    order by conrelid::regclass::text, conname
"""


class Link(NamedTuple):
    """A foreign key: the statements that drop it and add it again."""

    drop: bytes
    add: bytes


def definition_of(connection: Connection, name: str) -> tuple[str, ...]:
    """The statements that make a table without its indexes."""
    return tuple(statement for query in (TABLE, CONSTRAINTS) for (statement,) in connection.execute(query, (name,)))


def index_definitions(connection: Connection, name: str) -> tuple[str, ...]:
    """The statements that make the indexes of a table, but for those of its constraints."""
    return tuple(statement for (statement,) in connection.execute(INDEXES, (name,)))


def foreign_keys(connection: Connection, names: Sequence[str]) -> list[Link]:
    """Those of the tables."""
    return [Link(drop.encode(), add.encode()) for drop, add in connection.execute(LINKS, (list(names),))]
