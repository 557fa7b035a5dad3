"""What assets are, as the rules of this release name them: kind, base, safety and the rest.

Files that did not change are not read again, and yet what they are called gets better with every
release. The library remembers by which rules it was named: the first scan by newer ones looks into
the headers of all that is there, and hashes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from registry.scanning.places import name_of, names_of
from registry.scanning.scan_records import Content
from registry.tables import schema
from registry.tables.asset_values import content_values
from registry.tables.rows import batches
from registry.tables.writing import refresh_search
from registry.text import fold

RULES = 1
"""Of `converters.identify` and the verdicts on pickles: raised by a release that changes them."""


def are_older(connection: Connection) -> bool:
    """Whether the library was named by older rules."""
    found = connection.execute(select(func.max(schema.named_by.c.rules))).scalar()
    return found is None or found < RULES


def begin(connection: Connection) -> None:
    """Note all that is to be named by newer rules; nothing when another scan did so."""
    if not are_older(connection):
        return
    asset, waits = schema.asset.c, schema.unnamed.c.asset_id
    hashed = select(asset.id).where(asset.blake3.is_not(None), asset.id.not_in(select(waits)))
    connection.execute(insert(schema.unnamed).from_select(["asset_id"], hashed))
    connection.execute(delete(schema.named_by))
    connection.execute(insert(schema.named_by), [{"rules": RULES}])


def name(connection: Connection, told: Mapping[int, Content]) -> None:
    """Assets, by number, are what their files' headers tell now; left out are forgotten ones."""
    asset = schema.asset
    there = set(connection.execute(select(schema.unnamed.c.asset_id)).scalars())
    known = {owner: content for owner, content in told.items() if owner in there}
    if not known:
        return
    _digest_anew(connection, known)
    rows = [{**content_values(content), "owner": owner} for owner, content in known.items()]
    names = rows[0].keys() - {"owner"}
    statement = update(asset).where(asset.c.id == bindparam("owner"))
    connection.execute(statement.values({each: bindparam(each) for each in names}), rows)
    keep_metadata(connection, known)
    _rename(connection, list(known))
    refresh_search(connection, list(known))


def _digest_anew(connection: Connection, known: Mapping[int, Content]) -> None:
    """Have the tensors read again of what turns out to have components: who shares them is asked.

    Their digests are of all of each tensor's digest, of which a library keeps the beginning.
    """
    from converters.canonical import KINDS  # not for scans that find nothing new

    asset, waits = schema.asset.c, schema.undigested
    for some in batches([owner for owner, content in known.items() if content.kind in KINDS]):
        found = connection.execute(select(asset.id, asset.kind).where(asset.id.in_(some)))
        other = [row.id for row in found if row.kind != known[row.id].kind]
        connection.execute(delete(waits).where(waits.c.asset_id.in_(other)))
        if other:
            connection.execute(insert(waits), [{"asset_id": owner} for owner in other])


def _rename(connection: Connection, owners: Sequence[int]) -> None:
    """Assets with the names of their files have those that tell more."""
    asset, file = schema.asset.c, schema.file.c
    changes: dict[int, str] = {}
    statement = select(asset.id, asset.name, file.path).where(asset.id == file.asset_id)
    for some in batches(owners):
        for row in connection.execute(statement.where(asset.id.in_(some)).order_by(file.id)):
            if row.name in names_of(row.path)[1:]:
                changes.setdefault(row.id, name_of(row.path))
    for owner, name in changes.items():
        values = {"name": name, "name_folded": fold(name)}
        connection.execute(update(schema.asset).where(asset.id == owner).values(values))


def keep_metadata(connection: Connection, told: Mapping[int, Content]) -> None:
    """Put the metadata of these assets in the place of what is known; they are named now."""
    for some in batches(list(told)):
        for table in (schema.asset_metadata, schema.unnamed):
            connection.execute(delete(table).where(table.c.asset_id.in_(some)))
    rows = [
        {"asset_id": owner, "metadata": dict(content.metadata)} for owner, content in told.items()
    ]
    if rows:
        connection.execute(insert(schema.asset_metadata), rows)
