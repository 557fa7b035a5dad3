"""Download from the Hugging Face Hub into the library: verified, placed by kind, registered."""

from __future__ import annotations

import hashlib
import shutil
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
    FileProblem,
)
from converters.hashing import FileHashes, hash_file
from converters.identify import identify
from converters.progress import SILENT, Progress
from converters.writers.atomic import refuse_existing

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
        return _json(self.file, known.path if known else None, known, "already" if known else None)


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
    """What the Hub has of the request. Raises NotAvailable, or AssetNotFound for the repository."""
    names = request.files or tuple(
        name
        for name in huggingface.file_names(request.repo, request.revision)
        if PurePosixPath(name).suffix.lower() in MODEL_SUFFIXES
    )
    if not names:
        raise AssetNotFound("the repository has no model files", path=request.repo)
    for name in names:
        try:
            _check_name(name)
            file = huggingface.describe(request.repo, name, request.revision)
        except (AssetNotFound, BadValue) as error:
            yield Failure.of(error, f"{request.repo}/{name}")
            continue
        yield Download(file, _known(workspace, file))


def _check_name(name: str) -> None:
    parts = PurePosixPath(name).parts
    if name.startswith(("/", "\\")) or ".." in parts or "\\" in name or ":" in name:
        raise BadValue("is no name of a file in a repository", path=name)


def _known(workspace: Workspace, file: RemoteFile) -> Asset | None:
    if file.sha256 is None:
        return None
    try:
        asset = workspace.library.find(file.sha256)
    except AssetNotFound:
        return None
    return asset if asset.path is not None else None


def run_download(
    workspace: Workspace,
    download: Download,
    folder: Path | None = None,
    progress: Progress = SILENT,
) -> Downloaded:
    """Fetch, verify, place and register one file; a file that is known is not fetched.

    What was fetched before an interruption is used by the next call. Raises CorruptFile when the
    bytes are not what the Hub announced, WriteProblem, NotAvailable, Cancelled.
    """
    from registry.records import Source
    from registry.scanner import scan_file

    file, library = download.file, workspace.library
    source = Source("huggingface", file.repo, file.commit, file.name, file.url)
    if download.known is not None and download.known.path is not None:
        library.record_source(download.known.id, source)
        place = Path(download.known.path)
        return Downloaded(file, place, library.get(download.known.id), "already")
    parts = (
        (folder or workspace.paths.models)
        / _PARTS
        / f"{file.repo.replace('/', '--')}@{file.commit}"
    )
    fetched = huggingface.fetch(file, parts, progress)
    hashes, kind = _verified(file, fetched, progress)
    target = _place(workspace, folder, kind, file)
    refuse_existing(target, overwrite=False)
    target.parent.mkdir(parents=True, exist_ok=True)
    fetched.replace(target)
    shutil.rmtree(parts, ignore_errors=True)
    asset = scan_file(library, target, hashes=hashes)
    library.record_source(asset.id, source)
    return Downloaded(file, target, library.get(asset.id), "downloaded")


def _verified(file: RemoteFile, fetched: Path, progress: Progress) -> tuple[FileHashes, str]:
    """All hashes and the kind of a fetched file; one that differs is removed: CorruptFile."""
    model = _open(fetched)
    progress.stage(f"verifying {file.name}", fetched.stat().st_size)
    hashes = hash_file(fetched, progress, header_bytes=model.header_bytes if model else None).hashes
    differs = (
        hashes.sha256 != file.sha256
        if file.sha256
        else file.git_sha1 is not None and _git_sha1(fetched) != file.git_sha1
    )
    if differs:
        fetched.unlink()
        raise CorruptFile("the downloaded bytes are not those the Hub announced", path=file.url)
    return hashes, identify(model.state_dict).kind if model else "unknown"


def _open(path: Path) -> Model | None:
    try:
        return open_model(path)
    except FileProblem:
        return None


def _git_sha1(path: Path) -> str:
    """The name git gives to a blob: SHA-1 over `blob SIZE`, NUL, and the bytes."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _place(workspace: Workspace, folder: Path | None, kind: str, file: RemoteFile) -> Path:
    if folder is not None:
        return folder / PurePosixPath(file.name)
    name = PurePosixPath(file.name)
    generic = name.stem in {"diffusion_pytorch_model", "model", "pytorch_lora_weights"}
    prefix = f"{file.repo.split('/')[-1]}-" if generic else ""
    return workspace.paths.models / FOLDERS.get(kind, "other") / f"{prefix}{name.name}"


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
            yield Failure.of(error, download.file.url)
