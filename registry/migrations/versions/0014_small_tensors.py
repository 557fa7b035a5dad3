"""The next scan reads what was never digested, or by another rule: models of small tensors.

Written out here, apart from `registry.tables`, because a migration must stay as it was.
"""

from __future__ import annotations

from alembic import op

revision = "0014_small_tensors"
down_revision = "0013_file_names"

_MOST_BYTES, _REST = 20_000, 4_000_000
"""Bytes of a tensor of 16 kB with its part of the header; of metadata. Rather too many files."""


def upgrade() -> None:
    """Note their numbers."""
    op.execute(
        f"""
        INSERT INTO undigested SELECT id FROM asset
        WHERE blake3 IS NOT NULL AND container IS NOT NULL AND tensors > 0
        AND bytes < CAST({_MOST_BYTES} AS BIGINT) * tensors + {_REST}
        AND id NOT IN (SELECT asset_id FROM undigested)
        """
    )
