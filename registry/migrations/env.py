"""What Alembic runs: the scripts, on the connection that `upgrade` hands over."""

from __future__ import annotations

from alembic import context

from registry.tables.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
