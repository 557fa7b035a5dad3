"""The licence that a service names for what came from it.

Written out here, apart from `registry.tables`, because a migration must stay as it was.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006_licence"
down_revision = "0005_claims"


def upgrade() -> None:
    """What came before says nothing."""
    op.add_column("source", sa.Column("licence", sa.Text(), nullable=True))
