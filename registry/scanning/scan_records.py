"""What a scan hands to the library and gets back from it, and what it tells in the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from converters.bytesource import Fingerprint
    from converters.hashing import FileHashes
    from converters.identify import Component
    from converters.pickles.verdict import SafetyReport
    from converters.tensor_table import PackedWeights
    from registry.records import Claim, Contradiction


@dataclass(frozen=True, slots=True)
class Content:
    """What is inside of a file, as far as its headers tell.

    `dtypes` counts tensors per element type. A file that cannot be opened is `unknown` with the
    reason in `problems`.
    """

    kind: str
    base: str
    variant: str | None
    prediction: str
    algorithm: tuple[str, ...]
    layout: str | None
    container: str | None
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


@dataclass(frozen=True, slots=True)
class ScannedFile:
    """A file as far as it was read, ready to be recorded.

    `hashes` is None for a file of which only the headers were read until now, `content` for one
    that was recorded with it before. `is_undigested` when its tensors wait to be read, because its
    hashes were known already.
    """

    path: str
    bytes: int
    mtime_ns: int
    inode: int
    hashes: FileHashes | None
    weights: PackedWeights | None
    content: Content | None
    claims: tuple[Claim, ...] = ()
    is_undigested: bool = False


class KnownFile(NamedTuple):
    """What the library remembers of a place, to tell whether it has to be read again.

    `is_hashed` when nothing of it is left to be read: not its bytes, not its tensors. `is_named`
    when the asset in it is called what this release calls it.
    """

    id: int
    fingerprint: Fingerprint
    state: str
    is_hashed: bool
    asset_id: int
    is_named: bool = True


class Outcome(StrEnum):
    """What recording a file changed about its place."""

    ADDED = "added"
    UPDATED = "updated"
    RESTORED = "restored"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Recorded:
    """A file that was recorded: its asset, its place and what that changed."""

    asset_id: int
    file_id: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Settled:
    """How many new places turned out to be moves, and how many places went missing."""

    moved: int
    missing: int


@dataclass(frozen=True, slots=True)
class ScanError:
    """A file or folder that could not be read, with its cause; `code` is that of the error tree."""

    path: str
    error: str
    code: str
    hint: str | None


@dataclass(frozen=True, slots=True)
class ScanReport:
    """What a scan found, in files.

    `added` are new places, `updated` places whose content changed, `moved` places found again under
    another path, `restored` missing ones that are back. `failed` counts `errors`: among them are
    files whose content cannot be understood, which are registered nevertheless. `contradicted` are
    claims of what was read now that its bytes do not bear out.
    """

    roots: tuple[str, ...]
    added: int
    updated: int
    moved: int
    missing: int
    restored: int
    unchanged: int
    failed: int
    bytes_hashed: int
    seconds: float
    errors: tuple[ScanError, ...]
    contradicted: tuple[Contradiction, ...] = ()
