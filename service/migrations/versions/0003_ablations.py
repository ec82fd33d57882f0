"""Jobs of an ablation.

Revision ID: 0003
"""

from alembic import op

revision = "0003"
down_revision = "0002"

CHANGES = """
alter table job add column parent_id text references job (id) on delete cascade;
alter table job add column cell jsonb;
create index job_by_parent on job (parent_id, id);
"""


def upgrade() -> None:
    """Add the columns; jobs so far are nobody's children."""
    op.execute(CHANGES)
