"""What lies in the system's trash: where it was, and where it is now.

Sources: the freedesktop.org Trash specification 1.0; the `$I` files of Windows' recycle bin as
described in its forensic documentation (version, size, time, then the path in UTF-16); macOS keeps
files under their own names and tells nobody where they were.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from urllib.parse import unquote

_MOST_BYTES = 1 << 20
_NAME_LENGTHS = {1: 24, 2: 28}
"""Version of a `$I` file -> where its path begins."""


@dataclass(frozen=True, slots=True)
class Trashed:
    """A file or folder in the trash.

    `original` is where it was, or its name alone where the system tells no more. `receipt` is the
    file that says so, which goes when the other comes back. Greater `when`: thrown away later.
    """

    original: str
    place: Path
    receipt: Path | None
    when: float

    def was(self, path: str) -> bool:
        """Whether it can have lain at a path."""
        known = self.original if PurePath(self.original).is_absolute() else None
        return path == known if known else PurePath(path).name == self.original


def trashed() -> Iterator[Trashed]:
    """All that lies in the trash of this user; what cannot be read is left out."""
    find = _SYSTEMS.get(sys.platform, freedesktop)
    for found in find():
        if os.path.lexists(found.place):
            yield found


def freedesktop() -> Iterator[Trashed]:
    """The home trash, and those at the top of other disks."""
    home = os.environ.get("XDG_DATA_HOME") or str(Path("~/.local/share").expanduser())
    yield from _described(Path(home, "Trash"), Path("/"))
    for top in _mounts():
        yield from _described(top / ".Trash" / str(os.getuid()), top)
        yield from _described(top / f".Trash-{os.getuid()}", top)


def _described(trash: Path, top: Path) -> Iterator[Trashed]:
    for receipt in _entries(trash / "info"):
        if receipt.suffix != ".trashinfo":
            continue
        for line in _read(receipt).decode("utf-8", "replace").splitlines():
            if line.startswith("Path="):
                path = str(top / unquote(line.removeprefix("Path="), errors="surrogateescape"))
                yield Trashed(path, trash / "files" / receipt.stem, receipt, _changed(receipt))
                break


def _mounts() -> Iterator[Path]:
    """The mount points that Linux names; elsewhere disks are mounted in the usual places."""
    lines = _read(Path("/proc/self/mounts")).decode("utf-8", "replace").splitlines()
    for line in lines:
        place = line.split(" ")[1].encode().decode("unicode_escape")
        if not place.startswith(("/proc", "/sys", "/dev/pts")):
            yield Path(place)


def recycle_bin() -> Iterator[Trashed]:
    """The recycle bins of every drive that open to this user."""
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
        for folder in _entries(Path(f"{letter}:\\$Recycle.Bin")):
            yield from described_by_windows(folder)


def described_by_windows(folder: Path) -> Iterator[Trashed]:
    """The pairs of `$I…` (where it was) and `$R…` (the file) in a folder of a recycle bin."""
    for receipt in _entries(folder):
        if not receipt.name.startswith("$I"):
            continue
        content = _read(receipt)
        start = _NAME_LENGTHS.get(int.from_bytes(content[:8], "little"))
        path = content[start:].decode("utf-16-le", "replace").split("\0")[0] if start else ""
        if path:
            place = receipt.with_name("$R" + receipt.name[2:])
            yield Trashed(path, place, receipt, _changed(receipt))


def mac() -> Iterator[Trashed]:
    """The user's trash and those of other volumes."""
    folders = [Path("~/.Trash").expanduser()]
    folders += [top / ".Trashes" / str(os.getuid()) for top in _entries(Path("/Volumes"))]
    for folder in folders:
        for place in _entries(folder):
            yield Trashed(place.name, place, None, _changed(place))


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES)
    except OSError:
        return b""


def _changed(path: Path) -> float:
    try:
        return path.lstat().st_ctime
    except OSError:
        return 0.0


_SYSTEMS: dict[str, Callable[[], Iterator[Trashed]]] = {"win32": recycle_bin, "darwin": mac}
