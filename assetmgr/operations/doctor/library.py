"""The doctor's questions about the library: its database, folders and pictures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.config import Settings
from assetmgr.machine import find_machine, needs_name
from assetmgr.operations.doctor import downloads as doctor_downloads
from assetmgr.operations.doctor.check import Check, is_file, is_folder
from assetmgr.operations.programs import programs_of
from assetmgr.operations.views.manifest import read_manifest
from assetmgr.paths import Paths
from assetmgr.text import size
from converters.errors import AssetmgrError
from registry.pictures import THUMBNAIL_PNG

if TYPE_CHECKING:
    from registry.library import Library
    from registry.storage.health import Health

_SHOWN = 3
"""So many of a list of files are named."""


def checks(paths: Paths, settings: Settings) -> tuple[Check, ...]:
    """The database and, where it is one of this program version, what it knows.

    An older one is not opened: that would migrate it.
    """
    from registry.library import Library
    from registry.storage.health import examine

    url = settings.database_url or paths.database_url
    health = examine(url)
    if not health.is_current:
        return (_database(health),)
    try:
        machine = find_machine(paths.machine) if needs_name(settings.database_url) else ""
        with Library.open(url, machine) as library:
            return (
                _database(health),
                _roots(library),
                *_programs(library.roots()),
                *_previews(library, paths.previews),
                doctor_downloads.check(paths, settings, library.roots()),
            )
    except AssetmgrError as error:
        return (Check("database", ok=False, detail=str(error), hint=error.hint),)


def _database(health: Health) -> Check:
    if health.problems:
        detail = f"{health.name}: {'; '.join(health.problems)}"
        return Check("database", ok=False, detail=detail, hint=health.hint)
    if not health.exists:
        return Check("database", ok=True, detail=f"{health.name} is made when needed")
    told = [health.name, f"revision {health.revision}"]
    if health.bytes is not None:
        told.append(size(health.bytes))
    if not health.is_current:
        told.append(f"backed up and brought to revision {health.newest} when it is next used")
    if health.backups:
        told.append(f"backups from before migrations: {', '.join(health.backups)}")
    return Check("database", ok=True, detail=", ".join(told))


def _roots(library: Library) -> Check:
    """Folders that are gone, or whose disk is not mounted."""
    from registry.scanning.places import is_mount, within

    roots = library.roots()
    away = [mount for mount in library.mounts() if not is_mount(mount)]
    absent = [
        root for root in roots if not is_folder(root) or any(within(root, mount) for mount in away)
    ]
    if absent:
        detail = f"{len(absent)} of {len(roots)} not there: {_some(absent)}"
        hint = "connect the disk, nothing known of its files is lost; or assetmgr forget FOLDER"
        return Check("folders", ok=False, detail=detail, hint=hint)
    return Check("folders", ok=True, detail=_some(roots) or "none; see assetmgr scan --help")


def _programs(roots: Iterable[str]) -> Iterable[Check]:
    """The programs that the folders belong to, and our links in them.

    The folders may be their `models` alone. What is wrong with a configuration is that program's
    matter: it is told, and no fault.
    """
    own = [Path(root) for root in roots]
    above = [root.parent for root in own if root.name.casefold() == "models"]
    places = list(dict.fromkeys([*own, *above]))
    found = programs_of(places)
    told = [f"{program.name} in {program.root}" for program in found]
    told += [warning for program in found for warning in program.warnings]
    yield Check("programs", ok=True, detail="; ".join(told) or "none recognised")
    yield _links(places)


def _links(places: Iterable[Path]) -> Check:
    """Links of ours that lead nowhere any more, or lists of them that cannot be read."""
    count, broken = 0, []
    for place in places:
        try:
            manifest = read_manifest(place)
        except AssetmgrError as error:
            return Check("links", ok=False, detail=str(error), hint=error.hint)
        entries = manifest.entries.values() if manifest else ()
        count += len(entries)
        broken += [str(entry.place(place)) for entry in entries if not entry.is_sound(place)]
    detail = f"{len(broken)} of {count} lead nowhere" + (f": {_some(broken)}" if broken else "")
    hint = "mend them with the assetmgr link that made them" if broken else None
    return Check("links", ok=not broken, detail=detail, hint=hint)


def _previews(library: Library, folder: Path) -> Iterable[Check]:
    """Pictures that the library knows and that are gone, and pictures that it does not know."""
    known = {path for pictures in library.preview_pictures().values() for path in pictures}
    needed = (path for path in known if not path.endswith(THUMBNAIL_PNG))
    gone = sorted(path for path in needed if not is_file(path))
    hint = "make them again with assetmgr preview" if gone else None
    detail = f"{len(gone)} of {len(known)} pictures are gone" + (f": {_some(gone)}" if gone else "")
    yield Check("previews", ok=not gone, detail=detail, hint=hint)
    yield _leftovers(folder, known)


def _leftovers(folder: Path, known: set[str]) -> Check:
    """Not a fault: previews of files that the library does not have lie there too."""
    try:
        files = [file for file in folder.iterdir() if file.is_file()] if is_folder(folder) else []
        left = [file for file in files if str(file) not in known]
        nbytes = sum(file.stat().st_size for file in left)
    except OSError as error:
        return Check(
            "preview files",
            ok=False,
            detail=f"{folder} cannot be read: {error.strerror}",
            hint="check the permissions of the folder",
        )
    detail = f"{len(files)} in {folder}, of which {len(left)} ({size(nbytes)}) show no asset"
    hint = "those can be deleted" if left else None
    return Check("preview files", ok=True, detail=detail, hint=hint)


def _some(names: Iterable[str]) -> str:
    shown = list(names)
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more
