"""The newest migration, known here so that opening a current library needs no Alembic."""

REVISION = "0016_naming"
