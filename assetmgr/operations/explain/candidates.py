"""What a checkpoint may have been made of: models and adapters of its family that are at hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.walk import model_files
from converters.adapters.opening import with_config_beside
from converters.bases import Base
from converters.containers import is_pipeline, open_model
from converters.errors import AssetmgrError, AssetNotFound, UnsupportedFile
from converters.identify import Identity, Kind, identify
from converters.progress import Progress
from converters.recovery.parts import Parts, parts_of
from converters.statedict import StateDict

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset

MODELS = (Kind.CHECKPOINT, Kind.DIFFUSION_MODEL)
PARTS = (Kind.VAE, Kind.TEXT_ENCODER)
"""Kinds that are one component; their files seldom tell the family."""
ADAPTERS = (Kind.LORA,)
_UNTOLD = (Base.UNKNOWN, Base.ANY)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may be an ingredient; `asset` is its number in the library, if it has one."""

    path: Path
    name: str
    kind: str
    asset: int | None = None
    sha256: str | None = None

    @property
    def is_adapter(self) -> bool:
        """Whether it is merged into models."""
        return self.kind in ADAPTERS

    def to_json(self) -> dict[str, object]:
        """How documents name it."""
        return {"asset": self.asset, "path": str(self.path), "name": self.name, "kind": self.kind}


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that could not be compared, and why."""

    candidate: Candidate
    reason: str


@dataclass(frozen=True, slots=True)
class Opened:
    """Candidates whose headers were read: models with their components, adapters, and the rest."""

    models: tuple[Candidate, ...]
    parts: tuple[Parts, ...]
    adapters: tuple[Candidate, ...]
    states: tuple[StateDict, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True, slots=True)
class Subject:
    """The checkpoint that is explained."""

    path: Path
    state: StateDict
    identity: Identity
    parts: Parts
    asset: Asset | None


def find_candidates(
    workspace: Workspace, subject: Subject, among: str | None, files: Sequence[str]
) -> list[Candidate]:
    """Files of the library that match a query (None: of the family), and those that are named.

    Neither the checkpoint itself nor what is known to be made from it. Raises BadValue for a query
    that is none, FileMissing for a file that is not there.
    """
    found: dict[Path, Candidate] = {}
    for asset in _of_library(workspace, subject, among):
        if asset.path is not None:
            found[Path(asset.path)] = _of_asset(asset)
    for path in model_files(files, is_whole=is_pipeline):
        found[path.resolve()] = _at(workspace, path.resolve())
    return [each for each in found.values() if not _is_itself(each, subject)]


def _of_library(workspace: Workspace, subject: Subject, among: str | None) -> Iterator[Asset]:
    made = _descendants(workspace, subject)
    family = subject.identity.base
    queries = [f"kind:{kind} base:{family}" for kind in MODELS]
    queries += [f"kind:{kind}" for kind in PARTS]
    queries += [f"kind:{kind} base:{base}" for kind in ADAPTERS for base in (family, *_UNTOLD)]
    for query in queries:
        for asset in workspace.library.assets(f"{query} {among or ''}", sort="id"):
            if asset.id not in made:
                yield asset


def _descendants(workspace: Workspace, subject: Subject) -> set[int]:
    """The checkpoint, and what is known to be made from it."""
    if subject.asset is None:
        return set()
    tree = workspace.library.lineage(subject.asset.id)
    return {subject.asset.id, *(child.asset for child in tree.children)}


def _of_asset(asset: Asset) -> Candidate:
    path = Path(asset.path or "")
    return Candidate(path, asset.name, asset.kind, asset.id, asset.hashes.get("sha256"))


def _at(workspace: Workspace, path: Path) -> Candidate:
    try:
        return _of_asset(workspace.library.find(str(path)))
    except AssetNotFound:
        return Candidate(path, path.stem, "")


def _is_itself(candidate: Candidate, subject: Subject) -> bool:
    return candidate.path == subject.path.resolve()


def open_candidates(candidates: Sequence[Candidate], family: Base, progress: Progress) -> Opened:
    """Read the headers of candidates; what cannot be read or is of another kind is left out."""
    models: list[Candidate] = []
    adapters: list[Candidate] = []
    parts: list[Parts] = []
    states: list[StateDict] = []
    left_out: list[LeftOut] = []
    progress.stage("reading headers", len(candidates), "files")
    for candidate in candidates:
        try:
            state = with_config_beside(open_model(candidate.path).state_dict, candidate.path)
            kind = _kind(candidate, state, family)
        except AssetmgrError as error:
            left_out.append(LeftOut(candidate, error.cause))
            continue
        finally:
            progress.advance()
        told = Candidate(candidate.path, candidate.name, kind, candidate.asset, candidate.sha256)
        if told.is_adapter:
            adapters.append(told)
            states.append(state)
        else:
            models.append(told)
            parts.append(parts_of(state, kind))
    return Opened(tuple(models), tuple(parts), tuple(adapters), tuple(states), tuple(left_out))


def _kind(candidate: Candidate, state: StateDict, family: Base) -> str:
    """The kind of a candidate; what the library does not know is looked into."""
    if candidate.kind:
        return candidate.kind
    found = identify(state)
    takes_part = found.kind in PARTS or (
        found.base in ((family, *_UNTOLD) if found.kind in ADAPTERS else (family,))
        and found.kind in (*MODELS, *ADAPTERS)
    )
    if not takes_part:
        raise UnsupportedFile(
            f"is of kind {found.kind} ({found.base.label}), no ingredient of {family.label}"
        )
    return found.kind
