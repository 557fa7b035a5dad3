"""Parts of pipelines are called by their folders, instead of `diffusion_pytorch_model` all of them.

Written out here, apart from `registry.schema`, because a migration must stay as it was.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from registry.place_text import PlaceText
from registry.places import name_of
from registry.text import fold

revision = "0015_names_of_parts"
down_revision = "0014_small_tensors"

_file = sa.table("file", sa.column("id"), sa.column("asset_id"), sa.column("path", PlaceText()))
_asset = sa.table("asset", sa.column("id"), sa.column("name"), sa.column("name_folded"))
_search = sa.table("asset_search", sa.column("asset_id"), sa.column("text"))
_COMMON = ("%model%", "%pytorch_lora_weights%")


def upgrade() -> None:
    """Give those their new names that have the one of their first file."""
    connection = op.get_bind()
    named = sa.select(_asset.c.id, _asset.c.name, _file.c.path).order_by(_file.c.id.desc())
    common = sa.or_(*(_asset.c.name_folded.like(like) for like in _COMMON))
    found = connection.execute(named.where(_asset.c.id == _file.c.asset_id, common)).all()
    for number, (name, path) in {number: (name, path) for number, name, path in found}.items():
        new = name_of(path)
        if new != name and path.rpartition(name)[2].startswith("."):
            mine = _asset.c.id == number
            connection.execute(
                sa.update(_asset).where(mine).values(name=new, name_folded=fold(new))
            )
            _rename(connection, number, fold(name), fold(new))


def _rename(connection: sa.Connection, number: int, old: str, new: str) -> None:
    """The texts in which words are looked for begin with the name."""
    mine = _search.c.asset_id == number
    text = connection.execute(sa.select(_search.c.text).where(mine)).scalar_one_or_none()
    if text is not None and text.startswith(f"{old}\n"):
        longer = new + text.removeprefix(old)
        connection.execute(sa.update(_search).where(mine).values(text=longer))
