"""Assets that are known before they are hashed, places on several machines, digests of tensors.

Written out here, apart from `registry.tables`, because a migration must stay as it was. In SQLite
these changes build tables anew: foreign keys must be off, or the old tables would take all that
hangs on them with them (https://sqlite.org/lang_altertable.html#otheralter).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003_places"
down_revision = "0002_sidecars"


def upgrade() -> None:
    """Files recorded until now are those of this machine, which has no name in SQLite."""
    with op.batch_alter_table("asset") as asset:
        asset.alter_column("blake3", existing_type=sa.String(64), nullable=True)
        asset.alter_column("sha256", existing_type=sa.String(64), nullable=True)
        asset.alter_column("crc32", existing_type=sa.String(8), nullable=True)
    with op.batch_alter_table("file") as file:
        file.add_column(sa.Column("machine", sa.Text(), nullable=False, server_default=""))
        file.drop_constraint("uq_file_path", type_="unique")
        file.create_unique_constraint("uq_file_machine_path", ["machine", "path"])
    with op.batch_alter_table("root") as root:
        root.add_column(sa.Column("machine", sa.Text(), nullable=False, server_default=""))
        root.drop_constraint("pk_root", type_="primary")
        root.create_primary_key("pk_root", ["machine", "path"])
    _create_digests()
    _create_candidates()


def _create_digests() -> None:
    op.create_table(
        "component",
        sa.Column("asset_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["asset_id"], ["asset.id"], name=op.f("fk_component_asset_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("asset_id", "name", name=op.f("pk_component")),
    )
    op.create_index(op.f("ix_component_digest"), "component", ["digest"], unique=False)
    op.create_table(
        "asset_tensors",
        sa.Column("asset_id", sa.Integer(), nullable=False),
        sa.Column("packed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["asset_id"], ["asset.id"], name=op.f("fk_asset_tensors_asset_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("asset_id", name=op.f("pk_asset_tensors")),
    )


def _create_candidates() -> None:
    op.create_table(
        "candidate",
        sa.Column("asset_id", sa.Integer(), nullable=False),
        sa.Column("hash", sa.String(length=8), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["asset_id"], ["asset.id"], name=op.f("fk_candidate_asset_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("asset_id", "hash", "digest", name=op.f("pk_candidate")),
    )
    op.create_index(op.f("ix_candidate_digest"), "candidate", ["digest"], unique=False)
