"""An asset is found by what each of its files is called.

Written out here, apart from `registry.tables`, because a migration must stay as it was.
"""

from __future__ import annotations

from collections import defaultdict

import sqlalchemy as sa
from alembic import op

from registry.scanning.places import name_of
from registry.tables.place_text import PlaceText
from registry.text import fold

revision = "0013_file_names"
down_revision = "0012_mounts"

_file = sa.table("file", sa.column("asset_id"), sa.column("path", PlaceText()))
_asset = sa.table("asset", sa.column("id"), sa.column("name"))
_search = sa.table("asset_search", sa.column("asset_id"), sa.column("text"))
_END = "\n\n"


def upgrade() -> None:
    """Add the names of other files to the texts in which words are looked for."""
    connection = op.get_bind()
    named = sa.select(_asset.c.id, _asset.c.name, _file.c.path)
    others: defaultdict[int, dict[str, None]] = defaultdict(dict)
    for number, name, path in connection.execute(named.where(_asset.c.id == _file.c.asset_id)):
        if name_of(path) != name:
            others[number][fold(name_of(path)).replace("\n", " ")] = None
    for number, names in others.items():
        mine = _search.c.asset_id == number
        text = connection.execute(sa.select(_search.c.text).where(mine)).scalar_one_or_none()
        if text is not None:
            longer = "\n".join([text.removesuffix(_END), *names]) + _END
            connection.execute(sa.update(_search).where(mine).values(text=longer))
