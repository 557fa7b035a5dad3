"""What words are looked for in, of files that are recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, insert

from registry.scanning.places import names_of
from registry.scanning.recorded_places import Owners, Places
from registry.scanning.scan_records import ScannedFile
from registry.tables import schema
from registry.tables.writing import refresh_search, write_search_texts
from registry.text import searchable

_SHORT = 256
"""Characters of metadata that are searched at once: all that is no list of captions or buckets."""


def keep_search_texts(
    connection: Connection,
    scanned: Sequence[ScannedFile],
    owners: Owners,
    places: Places,
    made: frozenset[int],
) -> None:
    """Make what words are looked for in; of a file that is to be hashed yet, what is short.

    Captions are most of the text by far: indexing them would keep the names of others waiting. On
    assets that were `made` a moment ago nobody wrote anything.
    """
    short: dict[int, Mapping[str, str]] = {}
    first: dict[int, str] = {}
    whole: list[int] = []
    for file in scanned:
        if file.path not in owners:
            continue
        place, owner = places.get(file.path), owners[file.path]
        if file.hashes is not None and (file.content or (place and not place.is_hashed)):
            whole.append(owner)
        elif file.hashes is None and file.content is not None:
            told = file.content.metadata.items()
            short[owner] = few = {name: value for name, value in told if len(value) <= _SHORT}
            if owner in made:
                words = file.content.trigger_words
                name, *others = names_of(file.path)
                first[owner] = searchable(name, None, (), words, few, files=others)
    if first:
        rows = [{"asset_id": owner, "text": text} for owner, text in first.items()]
        connection.execute(insert(schema.asset_search), rows)
    write_search_texts(connection, {each: few for each, few in short.items() if each not in first})
    refresh_search(connection, whole)
