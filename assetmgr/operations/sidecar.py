"""What the library knows of models, written beside them for other programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.beside import files_of, path_beside, record_beside
from assetmgr.operations.failures import Failure
from converters.bytesource import FileBytes
from converters.errors import (
    AssetmgrError,
    BadValue,
    CorruptFile,
    FileMissing,
    NotAvailable,
    TargetExists,
)
from converters.writers.atomic import write_whole

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset, File
    from registry.sidecars.writers import Writer

PICTURE = "preview"
PICTURE_ENDING = ".preview.png"
_OVERWRITE = "--overwrite puts ours into it, and keeps the keys that are not ours"
_MAX_PICTURE_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class SidecarRequest:
    """Which sidecars of which assets: `programs` are keys of WRITERS."""

    references: tuple[str, ...]
    programs: tuple[str, ...] = ()
    preview: bool = False
    overwrite: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class SidecarWritten:
    """A file beside a model; `state` is written, unchanged, or None for what would be written."""

    asset: int
    model: str
    path: str
    program: str
    state: str | None

    def to_json(self) -> dict[str, object]:
        """The entry of the document."""
        return {
            "asset": self.asset,
            "model": self.model,
            "path": self.path,
            "for": self.program,
            "state": self.state,
        }


def write_sidecars(
    workspace: Workspace, request: SidecarRequest
) -> Iterator[SidecarWritten | Failure]:
    """Write them one after the other; what cannot be written is a Failure.

    A file that is not ours, or was edited since, stays unless `overwrite`; even then its keys that
    we do not write stay. Raises BadValue for a request of nothing.
    """
    if not request.programs and not request.preview:
        raise BadValue("name a program with --for, or ask for --preview")
    for reference in request.references:
        try:
            asset = workspace.library.find(reference)
            files = files_of(asset)
        except AssetmgrError as error:
            yield Failure.of(error, reference)
            continue
        for file in files:
            yield from _beside(workspace, request, asset, file)


def _beside(
    workspace: Workspace, request: SidecarRequest, asset: Asset, file: File
) -> Iterator[SidecarWritten | Failure]:
    from registry.sidecars.writers import WRITERS

    if request.preview:  # first, because the others may name it
        path = path_beside(file.path, PICTURE_ENDING)
        yield _attempt(workspace, request, asset, file, PICTURE, path, None)
    for program in request.programs:
        writer = WRITERS[program]
        path = path_beside(file.path, writer.ending)
        yield _attempt(workspace, request, asset, file, program, path, writer)


def _attempt(
    workspace: Workspace,
    request: SidecarRequest,
    asset: Asset,
    file: File,
    program: str,
    path: Path,
    writer: Writer | None,
) -> SidecarWritten | Failure:
    """One file, written unless it says this already."""
    try:
        old = _content(path)
        if writer is None:
            new = _picture(asset, path, old, overwrite=request.overwrite)
        else:
            fresh = workspace.library.get(asset.id)  # with what was written just now
            new = _document(writer, fresh, file, path, old, overwrite=request.overwrite)
        if new == old:
            return SidecarWritten(asset.id, file.path, str(path), program, "unchanged")
        if request.dry_run:
            return SidecarWritten(asset.id, file.path, str(path), program, None)
        write_whole(path, new, overwrite=old is not None)
        record_beside(workspace, asset.id, file.path, path)
    except AssetmgrError as error:
        return Failure.of(error, path)
    return SidecarWritten(asset.id, file.path, str(path), program, "written")


def _content(path: Path) -> bytes | None:
    """What the file has now; None where there is none. Raises FileProblem."""
    try:
        source = FileBytes(path)
    except FileMissing:
        return None
    try:
        if source.size > _MAX_PICTURE_BYTES:
            raise CorruptFile("is too long for a sidecar", path=path)
        return source.pread(0, source.size)
    finally:
        source.close()


def _picture(asset: Asset, path: Path, old: bytes | None, *, overwrite: bool) -> bytes:
    """The verified render. Raises NotAvailable without one."""
    preview = asset.preview
    if preview is None or preview.path is None or preview.verdict != "ok":
        cause = "has no render that was verified"
        raise NotAvailable(cause, path=asset.name, hint=f"assetmgr preview '#{asset.id}'")
    new = _content(Path(preview.path))
    if new is None:
        raise FileMissing("the render is not there any more", path=preview.path)
    if old not in {None, new} and not overwrite:
        raise TargetExists("another picture is there", path=path, hint="--overwrite replaces it")
    return new


def _document(
    writer: Writer, asset: Asset, file: File, path: Path, old: bytes | None, *, overwrite: bool
) -> bytes:
    """The sidecar with what is known now. Raises TargetExists for one that is not ours."""
    from registry.document import BadDocument
    from registry.sidecars.known import known_of
    from registry.sidecars.writers import encoded, is_ours, parsed, rewritten

    there: dict[str, object] = {}
    try:
        there = {} if old is None else parsed(old)
    except BadDocument as error:
        if not overwrite:
            raise TargetExists(f"is not ours, and {error}", path=path, hint=_OVERWRITE) from None
    try:
        ours = is_ours(there)
        known = known_of(asset, file, without=str(path) if ours else None)
        document = rewritten(there, writer.write(known))
        new = old if ours and old is not None and document == there else encoded(document)
    except (BadDocument, RecursionError):
        raise CorruptFile("holds what cannot be written again", path=path) from None
    if old not in {None, new} and not ours and not overwrite:
        raise TargetExists("is not ours, or was edited since", path=path, hint=_OVERWRITE)
    return new
