"""What the files beside models say: found and read by a scan, kept with the assets.

A sidecar is read when its size or modification time changed; the model beside it is not opened for
that. What one said is forgotten when it is gone from beside a model that is there: a model that
was moved without its sidecars, or is missing together with them, loses nothing.
"""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from converters.progress import Progress
from converters.suffixes import MODEL_SUFFIXES
from registry.library import Library
from registry.scanning.walk import Walk
from registry.sidecars import Row, beside, read_sidecar
from registry.tables.sidecar_rows import Found, Key, Stamp

_OF_MODELS = tuple(MODEL_SUFFIXES)
BATCH = 256
"""Sidecars recorded in one transaction."""


class _Lying(NamedTuple):
    """A file that lies beside a model."""

    row: Row
    stamp: Stamp


def refresh(library: Library, walk: Walk, progress: Progress) -> frozenset[int]:
    """Read the sidecars that changed beside the files of a walk; forget those that are gone.

    Gives the numbers of the assets that more is told of. Raises Cancelled; what was recorded until
    then stays.
    """
    known, lying = library.known_sidecars(), _lying(walk)
    if not known and not lying:
        return frozenset()
    assets = library.file_assets()
    here = {Key(assets[model], path): found for model, path, found in lying if model in assets}
    changed = {key: found for key, found in here.items() if known.get(key) != found.stamp}
    _read(library, changed, progress)
    met = {assets[path] for path in walk.files if path in assets}
    gone = [
        key
        for key in known
        if key not in here and key.asset_id in met and walk.reaches(key.path) and _is_gone(key.path)
    ]
    if gone:
        library.forget_sidecars(gone)
    return frozenset(key.asset_id for key in changed)


def follow(library: Library, asset_id: int, gone: Iterable[str], model: str) -> None:
    """A model was moved with what lay beside it: `gone` are the old paths of its sidecars."""
    keys = [Key(asset_id, path) for path in gone]
    if keys:
        library.forget_sidecars(keys)
    folder, name = os.path.split(model)
    found = [
        Found(Key(asset_id, path), lying.stamp, read_sidecar(lying.row, path))
        for _, path, lying in _in_folder(folder, [name])
    ]
    if found:
        library.record_sidecars(found)


def _read(library: Library, changed: Mapping[Key, _Lying], progress: Progress) -> None:
    if not changed:
        return
    progress.stage("reading sidecars", len(changed), "sidecars")
    waiting: list[Found] = []
    for key, (row, stamp) in changed.items():
        waiting.append(Found(key, stamp, read_sidecar(row, key.path)))
        if len(waiting) == BATCH:
            library.record_sidecars(waiting)
            waiting.clear()
        progress.advance()
    if waiting:
        library.record_sidecars(waiting)


def _lying(walk: Walk) -> list[tuple[str, str, _Lying]]:
    """The sidecars there are: the model, the sidecar's path, and how it is read."""
    alone = {folder for folder, names in walk.others.items() if not names}
    folders: defaultdict[str, list[str]] = defaultdict(list)
    for model in walk.files:
        folder, _, name = model.rpartition(os.sep)
        if folder not in alone:
            folders[folder].append(name)
    return [
        found
        for folder, models in folders.items()
        for found in _in_folder(folder, models, walk.others.get(folder))
    ]


def _in_folder(
    folder: str, models: Iterable[str], names: frozenset[str] | None = None
) -> Iterator[tuple[str, str, _Lying]]:
    """The sidecars of models in a folder, among `names` where these are known."""
    start = folder.rstrip(os.sep) + os.sep
    if names is None:
        names = _other_names(start)
    for model in models if names else ():
        for row, name in beside(model, names):
            stamp = _stamp(start + name)
            if stamp is not None:
                yield start + model, start + name, _Lying(row, stamp)


def _other_names(folder: str) -> frozenset[str]:
    """Names in a folder that are not those of models."""
    try:
        with os.scandir(folder) as listing:
            names = [entry.name for entry in listing]
    except OSError:  # the walk has named it, or it is gone since
        return frozenset()
    return frozenset(name for name in names if not name.lower().endswith(_OF_MODELS))


def _stamp(path: str) -> Stamp | None:
    """None for what is no regular file, or cannot be looked at."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return Stamp(status.st_size, status.st_mtime_ns)


def _is_gone(path: str) -> bool:
    return not os.path.lexists(path)
