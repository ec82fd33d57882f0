"""Variants of a model.

Revision ID: 0004
"""

from alembic import op

revision = "0004"
down_revision = "0003"

CHANGES = """
alter table model add column variants jsonb;
update model set variants = '{"float32": {"status": "published"}}';
alter table model alter column variants set not null;
"""


def upgrade() -> None:
    """Add the column; models so far have float32 alone, of which `parity_cosine` is the figure."""
    op.execute(CHANGES)
