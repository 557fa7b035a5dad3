"""After a walk: which new places are old files under another name, and which places are empty now.

A file is moved when its content appears at a new path while a path that had it is gone. Its old
place becomes the new one, so that the library shows one file and not a found and a lost one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, update

from converters.bytesource import Fingerprint
from registry.scanning.places import name_of, names_of
from registry.scanning.scan_records import Settled
from registry.tables import schema
from registry.tables.rows import batches
from registry.tables.states import MISSING, PRESENT
from registry.tables.writing import drop_abandoned, refresh_search, touch
from registry.text import fold

_file = schema.file.c


def settle(connection: Connection, new: Sequence[int], vanished: Sequence[int]) -> Settled:
    """Join new files with vanished or missing ones of the same content; mark the rest missing."""
    moved = _reattach(connection, new, frozenset(vanished))
    missing = 0
    for some in batches(vanished):
        here = (_file.id.in_(some), _file.state == PRESENT)
        missing += connection.execute(
            select(func.count()).select_from(schema.file).where(*here)
        ).scalar_one()
        connection.execute(update(schema.file).where(*here).values(state=MISSING))
    return Settled(moved, missing)


def _reattach(connection: Connection, new: Sequence[int], vanished: frozenset[int]) -> int:
    moved = 0
    for some in batches(new):
        arrived = connection.execute(select(schema.file).where(_file.id.in_(some))).all()
        lost = _lost(connection, [row.asset_id for row in arrived], vanished)
        for file in arrived:
            places = lost[file.machine, file.asset_id]
            if places:
                _join(connection, file, places.pop(0))
                moved += 1
    return moved


def _lost(
    connection: Connection, asset_ids: Sequence[int], vanished: frozenset[int]
) -> defaultdict[tuple[str, int], list[Row[Any]]]:
    """By machine and asset, the places where the file is not any more."""
    lost: defaultdict[tuple[str, int], list[Row[Any]]] = defaultdict(list)
    statement = select(schema.file).where(_file.asset_id.in_(asset_ids)).order_by(_file.id)
    for row in connection.execute(statement):
        if row.state == MISSING or row.id in vanished:
            lost[row.machine, row.asset_id].append(row)
    return lost


def _join(connection: Connection, arrived: Row[Any], lost: Row[Any]) -> None:
    """The lost place is the new one now; a name that was the file's follows the file."""
    connection.execute(delete(schema.file).where(_file.id == lost.id))
    _rename(connection, arrived.asset_id, lost.path, arrived.path)


def relocate(connection: Connection, file_id: int, path: str, fingerprint: Fingerprint) -> None:
    """A place has another path; a name that was the file's follows it. Its tags and the like stay.

    What was recorded at the new path (a file that is gone, or it could not be there) goes.
    """
    file = connection.execute(select(schema.file).where(_file.id == file_id)).one()
    there = (_file.machine == file.machine, _file.path == path, _file.id != file_id)
    abandoned = connection.execute(select(_file.asset_id).where(*there)).scalars().all()
    connection.execute(delete(schema.file).where(*there))
    connection.execute(
        update(schema.file)
        .where(_file.id == file_id)
        .values(
            path=path,
            path_folded=fold(path),
            bytes=fingerprint.size,
            mtime_ns=fingerprint.mtime_ns,
            inode=str(fingerprint.inode),
            state=PRESENT,
        )
    )
    _rename(connection, file.asset_id, file.path, path)
    drop_abandoned(connection, abandoned)


def _rename(connection: Connection, asset_id: int, old: str, new: str) -> None:
    """Let an asset that was called by its file's name be called, and found, by the new one."""
    asset = schema.asset.c
    name = connection.execute(select(asset.name).where(asset.id == asset_id)).scalar_one()
    if name in names_of(old) and name != name_of(new):
        touch(connection, asset_id, name=name_of(new), name_folded=fold(name_of(new)))
    else:
        refresh_search(connection, [asset_id])


def dissolve(connection: Connection, file_ids: Sequence[int]) -> None:
    """Forget places, and those of their assets that have no other and nothing written on them."""
    for some in batches(file_ids):
        owners = (
            connection.execute(select(_file.asset_id).where(_file.id.in_(some))).scalars().all()
        )
        connection.execute(delete(schema.file).where(_file.id.in_(some)))
        drop_abandoned(connection, owners)
        refresh_search(connection, owners)
