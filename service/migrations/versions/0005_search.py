"""Filters by label and metadata, and the measured recall of an index.

Revision ID: 0005
"""

from alembic import op

revision = "0005"
down_revision = "0004"

CHANGES = """
create index collection_image_by_label on collection_image (collection_id, label);
create index collection_image_by_metadata on collection_image using gin (metadata jsonb_path_ops);
alter table embedding_table add column ef_search integer;
alter table embedding_table add column recall double precision;
alter table embedding_table add column num_measured integer;
alter table embedding_table add column measured_at timestamptz;
"""


def upgrade() -> None:
    """Add them; indexes so far are searched as an unmeasured one is."""
    op.execute(CHANGES)
