"""Attempts of several processes on several nodes.

Revision ID: 0002
"""

from alembic import op

revision = "0002"
down_revision = "0001"

COLUMNS = """
alter table job add column asked_to_yield boolean not null default false;
alter table node add column rendezvous_port integer;
alter table placement add column num_nodes integer not null default 1;
alter table placement add column rendezvous_address text;
alter table placement add column rendezvous_port integer;
alter table placement add column loss jsonb;
"""


def upgrade() -> None:
    """Add the columns; jobs that run are alone on their node."""
    op.execute(COLUMNS)
