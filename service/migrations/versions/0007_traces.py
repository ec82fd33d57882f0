"""The trace that a job belongs to.

Revision ID: 0007
"""

from alembic import op

revision = "0007"
down_revision = "0006"

CHANGES = """
alter table job add column traceparent text;
"""


def upgrade() -> None:
    """Add the column; jobs so far belong to none."""
    op.execute(CHANGES)
