"""Download from the Hugging Face Hub into the library: verified, placed by kind, registered."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from assetmgr.operations.failures import Failure
from assetmgr.sources import huggingface
from assetmgr.sources.huggingface import RemoteFile
from converters.containers import MODEL_SUFFIXES, Model, open_model
from converters.errors import (
    AssetmgrError,
    AssetNotFound,
    BadValue,
    Cancelled,
    CorruptFile,
    FileMissing,
    FileProblem,
    TargetExists,
)
from converters.hashing import BLOCK_BYTES, FileHashes, hash_file
from converters.identify import identify
from converters.progress import SILENT, Progress
from converters.writers.atomic import TEMPORARY_SUFFIX, naming, refuse_existing
from registry.text import storable

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset

FOLDERS = {
    "checkpoint": "checkpoints",
    "lora": "loras",
    "embedding": "embeddings",
    "hypernetwork": "hypernetworks",
    "vae": "vae",
}
"""Kind -> folder below the models folder; everything else goes to `other`."""

_PARTS = ".downloads"
_LONGEST_ENDING = 20
_GENERIC = frozenset(
    {"adapter_model", "diffusion_pytorch_model", "model", "pytorch_lora_weights", "pytorch_model"}
)
_DEVICES = frozenset(
    {"CON", "PRN", "AUX", "NUL"} | {f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10)}
)


@dataclass(frozen=True, slots=True)
class DownloadRequest:
    """`files` empty means all model files; `folder` None places each by its kind."""

    repo: str
    revision: str | None = None
    files: tuple[str, ...] = ()
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Download:
    """A file on the Hub, and the asset of the library that already is it."""

    file: RemoteFile
    known: Asset | None

    def to_json(self) -> dict[str, object]:
        """The document of the plan."""
        known = self.known
        place = None if known is None else _present(known)
        state = None if known is None else "already"
        return _json(self.file, None if place is None else str(place), known, state)


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A file that is in the library now; `state` is `downloaded` or `already`."""

    file: RemoteFile
    path: Path
    asset: Asset
    state: str

    def to_json(self) -> dict[str, object]:
        """The document of the contract."""
        return _json(self.file, str(self.path), self.asset, self.state)


def _json(
    file: RemoteFile, path: str | None, asset: Asset | None, state: str | None
) -> dict[str, object]:
    return {
        "repo": file.repo,
        "revision": file.commit,
        "file": file.name,
        "url": file.url,
        "bytes": file.size,
        "sha256": file.sha256,
        "path": path,
        "asset": asset.id if asset else None,
        "kind": asset.kind if asset else None,
        "state": state,
    }


def parse_repo(text: str) -> tuple[str, str | None]:
    """`REPO[@REVISION]`."""
    repo, _, revision = text.partition("@")
    return repo, revision or None


def plan_download(workspace: Workspace, request: DownloadRequest) -> Iterator[Download | Failure]:
    """What the Hub has of the request. Raises NotAvailable, or FileMissing for the repository."""
    names = request.files or tuple(
        name
        for name in huggingface.file_names(request.repo, request.revision)
        if PurePosixPath(name).suffix.lower() in MODEL_SUFFIXES
    )
    if not names:
        raise FileMissing("the repository has no model files", path=request.repo)
    for name in names:
        try:
            check_name(name)
            file = huggingface.describe(request.repo, name, request.revision)
        except AssetmgrError as error:
            yield Failure.of(error, f"{request.repo}/{name}")
            continue
        yield Download(file, known_asset(workspace, file))


def check_name(name: str) -> None:
    """Raises BadValue for what cannot be a file of a repository."""
    wrong = any(part in {"", ".", ".."} for part in name.split("/"))
    if wrong or not storable(name):
        raise BadValue("is no name of a file in a repository", path=name or "''")


def known_asset(workspace: Workspace, file: RemoteFile) -> Asset | None:
    """The asset of the library that has the same bytes and is there; None without one."""
    if file.sha256 is None:
        return None
    try:
        asset = workspace.library.find(file.sha256)
    except AssetNotFound:
        return None
    return asset if _present(asset) is not None else None


def _present(asset: Asset) -> Path | None:
    """Where an asset lies now; the library may not have noticed yet that a file is gone."""
    for file in asset.files:
        path = Path(file.path)
        if path.is_file() and path.stat().st_size == file.bytes:
            return path
    return None


def run_download(
    workspace: Workspace,
    download: Download,
    folder: Path | None = None,
    progress: Progress = SILENT,
) -> Downloaded:
    """Fetch, verify, place and register one file; a file that is known is not fetched.

    Bytes that were fetched before an interruption are not fetched again. Raises CorruptFile when
    the bytes are not what the Hub announced, WriteProblem, NotAvailable, Cancelled.
    """
    file = download.file
    place = _present(download.known) if download.known is not None else None
    if place is not None and download.known is not None:
        return _registered(workspace, file, download.known.id, place, "already")
    target = None if folder is None else folder.joinpath(*map(safe_name, file.name.split("/")))
    if target is not None and os.path.lexists(target):
        return _already_there(workspace, file, target, progress)
    part = _part(folder or workspace.paths.models, file)
    huggingface.fetch(file, part, progress)
    hashes, kind = _verified(file, part, progress)
    target = target or _place(workspace, kind, file)
    if os.path.lexists(target):
        _discard(part)
        return _already_there(workspace, file, target, progress)
    _move(part, target)
    _discard(part)
    return _register(workspace, file, target, hashes, "downloaded")


def _part(folder: Path, file: RemoteFile) -> Path:
    """Where the bytes gather: hidden, on the target's disk, one name for one content."""
    content = file.sha256 or f"{file.label}@{file.commit}"
    name = hashlib.sha256(content.encode()).hexdigest()[:32]
    return folder / _PARTS / f"{name}{TEMPORARY_SUFFIX}"


def _discard(part: Path) -> None:
    """Remove what is left of a download, and the hidden folder after the last one."""
    part.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        part.parent.rmdir()


def _verified(file: RemoteFile, part: Path, progress: Progress) -> tuple[FileHashes, str]:
    """All hashes and the kind of a fetched file; one that differs is removed: CorruptFile."""
    model = _open(part)
    header_bytes = model.header_bytes if model else None
    hashes = _hashes_if_same(file, part, progress, header_bytes)
    if hashes is None:
        _discard(part)
        cause = "the downloaded bytes are not those the Hub announced"
        raise CorruptFile(cause, path=file.label, hint="they were removed; try again")
    return hashes, identify(model.state_dict).kind if model else "unknown"


def _hashes_if_same(
    file: RemoteFile, path: Path, progress: Progress, header_bytes: int | None
) -> FileHashes | None:
    """The hashes of a file whose bytes are those the Hub announced; None for other bytes."""
    size = path.stat().st_size
    if size != (file.size or size):
        return None
    progress.stage(f"verifying {file.name}", size)
    hashes = hash_file(path, progress, header_bytes=header_bytes).hashes
    if file.sha256 is not None:
        return hashes if hashes.sha256 == file.sha256 else None
    if file.git_sha1 is not None:
        return hashes if _git_sha1(path, size) == file.git_sha1 else None
    progress.message(f"{file.name}: the Hub announced no hash, only the size was checked")
    return hashes


def _already_there(
    workspace: Workspace, file: RemoteFile, target: Path, progress: Progress
) -> Downloaded:
    """A target that has the content already is registered; any other is kept: TargetExists."""
    if target.is_file():
        model = _open(target)
        header_bytes = model.header_bytes if model else None
        hashes = _hashes_if_same(file, target, progress, header_bytes)
        if hashes is not None and (file.sha256 or file.git_sha1):
            return _register(workspace, file, target, hashes, "already")
    raise _taken(target)


def _taken(target: Path) -> AssetmgrError:
    hint = "name another folder with --to"
    return TargetExists("already exists with other content", path=target, hint=hint)


def _open(path: Path) -> Model | None:
    try:
        return open_model(path)
    except FileProblem:
        return None


def _git_sha1(path: Path, size: int) -> str:
    """The name git gives to a blob: SHA-1 over `blob SIZE`, NUL, and the bytes."""
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _place(workspace: Workspace, kind: str, file: RemoteFile) -> Path:
    """The folder of the kind; names that every repository has get those of repo and folders."""
    *folders, name = file.name.split("/")
    if name.split(".")[0].split("-")[0] in _GENERIC:
        name = "-".join([file.repo.split("/")[-1], *folders, name])
    return workspace.paths.models / FOLDERS.get(kind, "other") / safe_name(name)


def safe_name(name: str) -> str:
    """A name of the Hub as one that every system takes, with at most 200 bytes, ending kept.

    Source of the rules: Microsoft, "Naming Files, Paths, and Namespaces".
    """
    clean = re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f]', "_", name).rstrip(". ")
    stem, dot, suffix = clean.rpartition(".")
    if not dot or len(suffix.encode()) > _LONGEST_ENDING:
        stem, dot, suffix = clean, "", ""
    if stem.split(".")[0].upper() in _DEVICES or not clean:
        stem = f"_{stem}"
    kept = stem.encode()[: 200 - len(suffix.encode())].decode(errors="ignore")
    return f"{kept}{dot}{suffix}"


def _move(part: Path, target: Path) -> None:
    """Give fetched bytes their name, unless something else has it by now."""
    with naming(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(part, target)
        except FileExistsError as error:
            raise _taken(target) from error
        except (OSError, NotImplementedError, AttributeError):
            # No hard links on this file system: on Windows a rename refuses by itself.
            refuse_existing(target, overwrite=False)
            part.rename(target)


def _register(
    workspace: Workspace, file: RemoteFile, target: Path, hashes: FileHashes, state: str
) -> Downloaded:
    from registry.scanner import scan_file

    asset = scan_file(workspace.library, target, hashes=hashes)
    return _registered(workspace, file, asset.id, target, state)


def _registered(
    workspace: Workspace, file: RemoteFile, asset_id: int, place: Path, state: str
) -> Downloaded:
    from registry.records import Source

    source = Source("huggingface", file.repo, file.commit, file.name, file.url)
    workspace.library.record_source(asset_id, source)
    return Downloaded(file, place, workspace.library.get(asset_id), state)


def downloads(
    workspace: Workspace, request: DownloadRequest, progress: Progress = SILENT
) -> Iterator[Downloaded | Failure]:
    """Plan and run the whole request; a file that fails does not stop the others."""
    for download in plan_download(workspace, request):
        if isinstance(download, Failure):
            yield download
            continue
        try:
            yield run_download(workspace, download, request.folder, progress)
        except Cancelled:
            raise
        except AssetmgrError as error:
            yield Failure.of(error, download.file.label)
