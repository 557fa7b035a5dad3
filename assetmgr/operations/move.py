"""Files of assets under other names or in other folders, with what lies beside them.

The library follows: tags, notes, previews and lineage hang on the asset, and its file keeps its
number. A move can be taken back by moving the other way (`Move.back`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.failures import Failure
from assetmgr.operations.moving import move_path, on_one_disk, refuse_taken
from assetmgr.operations.names import safe_name
from assetmgr.operations.scanned_files import find_file, require_as_scanned, sidecars_of
from converters.errors import (
    AssetmgrError,
    BadValue,
    Cancelled,
    FileMissing,
    TargetExists,
    WriteFailed,
)
from converters.progress import SILENT, Progress

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset, File


@dataclass(frozen=True, slots=True)
class MoveRequest:
    """Which assets go into which folder (None: stay), and what their file is called then."""

    references: tuple[str, ...]
    folder: Path | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """A file or folder and where it goes; `sidecars` are pairs of old and new paths.

    `copied` is set where it goes to another disk. `outside` is set where no scan will look.
    """

    asset: int
    name: str
    source: str
    target: str
    bytes: int
    sidecars: tuple[tuple[str, str], ...]
    copied: bool
    outside: bool
    file: int

    def back(self) -> Move:
        """The move that takes this one back."""
        pairs = tuple((new, old) for old, new in self.sidecars)
        return replace(self, source=self.target, target=self.source, sidecars=pairs)

    def to_json(self) -> dict[str, object]:
        """The entry of the document."""
        return {
            "asset": self.asset,
            "name": self.name,
            "source": self.source,
            "target": self.target,
            "bytes": self.bytes,
            "sidecars": [{"source": old, "target": new} for old, new in self.sidecars],
            "copied": self.copied,
            "outside": self.outside,
        }


def plan_moves(workspace: Workspace, request: MoveRequest) -> tuple[Move | Failure, ...]:
    """What would go where; a name that is taken is a failure, and so is a file that is not there.

    Raises AssetNotFound, AmbiguousAsset, BadValue for a name that not every system takes, and
    WriteFailed for a folder that is none.
    """
    if request.folder is not None and _is_no_folder(request.folder):
        raise WriteFailed("is not a folder", path=request.folder)
    found = (pair for reference in request.references for pair in _files(workspace, reference))
    files = list({file.id: (asset, file) for asset, file in found}.values())
    if request.name is not None:
        _check_name(request.name)
        if len({asset.id for asset, _ in files}) > 1:
            raise BadValue("one name is for one asset", hint="--to moves many into a folder")
    roots, taken = workspace.library.roots(), set[str]()
    going = frozenset(file.path for _, file in files)
    return tuple(_planned(pair, request, going, roots, taken) for pair in files)


def _is_no_folder(path: Path) -> bool:
    return os.path.lexists(path) and not path.is_dir()


def _files(workspace: Workspace, reference: str) -> list[tuple[Asset, File]]:
    """The files a reference means: one by its path, else all of the asset that are there."""
    from registry.scanning.places import canonical

    asset = workspace.library.find(reference)
    there = [file for file in asset.files if file.here and file.state == "present"]
    named = [file for file in there if file.path == canonical(reference)]
    if not there:
        raise FileMissing("all files of this asset are missing", path=asset.name)
    return [(asset, file) for file in named or there]


def _check_name(name: str) -> None:
    if not name.strip() or safe_name(name) != name or name.startswith("."):
        hint = f"such as {safe_name(name.strip().lstrip('.')) or 'model'}"
        raise BadValue(f"not every system takes {name!r} as the name of a file", hint=hint)


def _planned(
    pair: tuple[Asset, File],
    request: MoveRequest,
    going: frozenset[str],
    roots: Sequence[str],
    taken: set[str],
) -> Move | Failure:
    from registry.scanning.places import within
    from registry.text import fold

    asset, file = pair
    source = Path(file.path)
    folder = source.parent if request.folder is None else Path(os.path.realpath(request.folder))
    target = folder / _new_name(source, request.name)
    names = [(source, target), *_beside(source, target, going)]
    try:
        require_as_scanned(file)
        for old, new in names:
            if old == new:
                raise TargetExists("lies there already", path=new)
            refuse_taken(old, new)
            if fold(str(new)) in taken:
                raise TargetExists("two files would have this name", path=new)
    except AssetmgrError as error:
        return Failure.of(error, file.path)
    taken.update(fold(str(new)) for _, new in names)
    return Move(
        asset.id,
        asset.name,
        str(source),
        str(target),
        file.bytes,
        tuple((str(old), str(new)) for old, new in names[1:]),
        copied=not on_one_disk(source, folder),
        outside=not any(within(str(target), root) for root in roots),
        file=file.id,
    )


def _new_name(source: Path, name: str | None) -> str:
    """The wanted name with the ending of the file, which says how it is read."""
    if name is None:
        return source.name
    if source.is_dir() or name.lower().endswith(source.suffix.lower()):
        return name
    return name + source.suffix


def _beside(source: Path, target: Path, going: frozenset[str]) -> Iterator[tuple[Path, Path]]:
    """The sidecars and their new names: what follows the model's name stays."""
    for path in map(Path, sidecars_of(source, going)):
        whole = path.name.startswith(source.name)
        old, new = (source.name, target.name) if whole else (source.stem, target.stem)
        yield path, target.with_name(new + path.name.removeprefix(old))


def run_moves(
    workspace: Workspace, planned: Sequence[Move], progress: Progress = SILENT
) -> Iterator[Move | Failure]:
    """Carry out a plan, file by file; what fails stays where it is. Raises Cancelled."""
    progress.stage("moving", sum(move.bytes for move in planned))
    for move in planned:
        try:
            require_as_scanned(find_file(workspace, move.asset, move.file, move.source))
            _move(workspace, move, progress)
        except Cancelled:
            raise
        except AssetmgrError as error:
            yield Failure.of(error, move.source)
            continue
        yield from _move_sidecars(workspace, move)
        if not move.copied:
            progress.advance(move.bytes)


def _move(workspace: Workspace, move: Move, progress: Progress) -> None:
    """The model and its entry in the library: both, or neither."""
    from registry.scanning.on_disk import fingerprint_of

    source, target = Path(move.source), Path(move.target)
    move_path(source, target, progress)
    try:
        workspace.library.relocate((move.file, move.target, fingerprint_of(move.target)))
    except AssetmgrError:
        move_path(target, source)
        raise


def _move_sidecars(workspace: Workspace, move: Move) -> Iterator[Move | Failure]:
    from registry.scanning.knowledge import follow

    done = []
    for old, new in move.sidecars:
        try:
            move_path(Path(old), Path(new))
            done.append((old, new))
        except AssetmgrError as error:
            yield Failure.of(error, old)
    follow(workspace.library, move.asset, [old for old, _ in done], move.target)
    yield replace(move, sidecars=tuple(done))
