"""What the library gives out and takes in: plain frozen values, never database rows.

Words (`kind`, `base`, `state`, verdicts) are those of the command-line contract. Times are aware
datetimes in UTC, sizes are bytes, hashes lower-case hex.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from registry.tables.states import MISSING, OFFLINE, PRESENT

if TYPE_CHECKING:  # listing a library needs none of what these modules import
    from converters.identify import Component
    from converters.pickles.verdict import SafetyReport
    from converters.statedict import Plain
    from registry.sidecars.record import Sidecar

CACHE = "huggingface-cache"
POINTER = "lfs-pointer"
"""Who claims hashes beside the owners of sidecars: a cache, and a file that stands for another."""


@dataclass(frozen=True, slots=True)
class File:
    """A place where an asset's content lies, or lay when `state` is `missing`.

    `offline` is a place on a disk that is not there now. `machine` names the one of several that
    share the library, `here` whether that is this one.
    """

    id: int
    path: str
    state: str
    bytes: int
    mtime_ns: int
    inode: int
    here: bool = True
    machine: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Where an asset came from: `source` is the service, the rest is its way of naming the file.

    `licence` is what the service said of it.
    """

    source: str
    repo: str | None = None
    revision: str | None = None
    file: str | None = None
    url: str | None = None
    licence: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A hash, or the beginning of one, that somebody names for a file before it was read.

    `origin` is `huggingface-cache`, `lfs-pointer` or the owner of a sidecar.
    """

    hash: str
    digest: str
    origin: str


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A claim that the bytes of an asset do not bear out; `path` is one of its files."""

    asset: int
    path: str
    hash: str
    claimed: str
    found: str
    origin: str


class Parent(Protocol):
    """A file something was made from, as operations know it."""

    @property
    def name(self) -> str:
        """What to call it."""

    @property
    def sha256(self) -> str | None:
        """The hash of the whole file, where known."""


@dataclass(frozen=True, slots=True)
class ParentFile:
    """A parent as a plain value."""

    name: str
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Derivation:
    """One thing an asset was made from.

    `asset` is the parent's number, None while the library does not know a file with its hash.
    `version` is that of the program that made it, where known.
    """

    asset: int | None
    parent_sha256: str | None
    name: str
    operation: str
    parameters: Mapping[str, Plain]
    version: str | None = None


@dataclass(frozen=True, slots=True)
class PreviewCheck:
    """One question a preview's verdict rests on."""

    name: str
    ok: bool
    value: float | None
    threshold: float | None
    detail: str


@dataclass(frozen=True, slots=True)
class Preview:
    """The newest render of an asset; `path` is the picture, None when nothing could be drawn."""

    path: str | None
    thumbnail: str | None
    seed: int
    prompt: str
    verdict: str
    checks: tuple[PreviewCheck, ...] = ()
    parameters: Mapping[str, Plain] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verification:
    """What checks found: `ok`, `failed`, or None for not checked; `render` is the preview's."""

    integrity: str | None = None
    structure: str | None = None
    render: str | None = None


@dataclass(frozen=True, slots=True)
class Asset:
    """Everything the library knows of one content.

    `hashes` has the keys blake3, sha256, crc32, autov1, autov2, autov3 and weights. `sidecars` are
    what files beside it say, `claims` hashes that others name for it. `component_digests` are the
    digests of its components by name, empty while the tensors have not been read, and for what has
    no components.
    """

    id: int
    name: str
    kind: str
    base: str
    variant: str | None
    prediction: str
    algorithm: tuple[str, ...]
    layout: str | None
    container: str | None
    bytes: int
    rank: int | None
    dtypes: Mapping[str, int]
    tensors: int
    parameters: int
    components: tuple[Component, ...]
    confidence: float
    evidence: tuple[str, ...]
    problems: tuple[str, ...]
    trigger_words: tuple[str, ...]
    metadata: Mapping[str, str]
    safety: SafetyReport
    hashes: Mapping[str, str | None]
    files: tuple[File, ...]
    tags: tuple[str, ...]
    note: str | None
    rating: int | None
    sources: tuple[Source, ...]
    derived_from: tuple[Derivation, ...]
    preview: Preview | None
    verification: Verification
    added: datetime
    updated: datetime
    sidecars: tuple[Sidecar, ...] = ()
    component_digests: Mapping[str, str] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()

    def agrees(self, claim: Claim) -> bool | None:
        """Whether the bytes were found to have the hash that is claimed; None before they were."""
        known = self.hashes[claim.hash]
        return None if known is None else known.startswith(claim.digest)

    def believes(self, claim: Claim) -> bool:
        """Whether the bytes leave a claim standing; a pointer's is not about its own bytes."""
        return claim.origin == POINTER or self.agrees(claim) is not False

    @property
    def state(self) -> str:
        """The best that is true of one of its files: `present`, `offline` or `missing`."""
        states = {file.state for file in self.files}
        return next((state for state in (PRESENT, OFFLINE) if state in states), MISSING)

    @property
    def path(self) -> str | None:
        """The first file that is there, on this machine; None when there is none."""
        present = (file.path for file in self.files if file.here and file.state == PRESENT)
        return next(present, None)
