"""Files that are there more than once, and what keeping one of each would free."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING

from assetmgr.operations.failures import Failure
from converters.canonical import canonical_parts
from converters.containers import open_model
from converters.digest import weigh
from converters.errors import BadValue, FileProblem
from converters.progress import SILENT, Progress

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset, File

BY = ("file", "weights")
"""The same bytes, or the same tensors whatever holds them."""


class Link(StrEnum):
    """How a file shares the bytes of another."""

    HARD = "hard"
    SYMBOLIC = "symbolic"


@dataclass(frozen=True, slots=True)
class Copy:
    """A file that has equals; `link` says why it takes no room of its own, if it does not."""

    asset: int
    path: str
    bytes: int
    link: Link | None

    @property
    def shares(self) -> bool:
        """Whether it takes no room of its own."""
        return self.link is not None

    def to_json(self) -> dict[str, object]:
        """The document of a copy."""
        return asdict(self) | {"shares": self.shares}


@dataclass(frozen=True, slots=True)
class Group:
    """Equal files; `reclaimable` are the bytes that all but the largest one take."""

    key: str
    name: str
    kind: str
    copies: tuple[Copy, ...]

    @property
    def reclaimable(self) -> int:
        """Bytes that would be free if only one file were kept, the largest."""
        sizes = sorted(copy.bytes for copy in self.copies if not copy.shares)
        return sum(sizes[:-1])

    def to_json(self) -> dict[str, object]:
        """The document of a group."""
        copies = [copy.to_json() for copy in self.copies]
        return asdict(self) | {"copies": copies, "reclaimable": self.reclaimable}


def duplicates(
    workspace: Workspace, by: str = "file", progress: Progress = SILENT
) -> tuple[tuple[Group, ...], tuple[Failure, ...]]:
    """The groups of equal files that are there, those first that would free the most.

    Of files that may hold the same weights, as their counts of tensors and numbers tell, those
    whose digest is not known yet are read for it; what cannot be read is among the failures. Raises
    BadValue for another `by`.
    """
    if by not in BY:
        raise BadValue(f"duplicates go by {' or '.join(BY)}, not by {by}")
    failures: tuple[Failure, ...] = ()
    if by == "weights":
        failures = tuple(_digest_candidates(workspace, progress))
    candidates = "is:duplicate" if by == "file" else "-is:missing -is:offline"
    assets = workspace.library.assets(candidates)
    groups = [_group(key, members) for key, members in _equal(assets, by)]
    found = [group for group in groups if len(group.copies) > 1]
    return tuple(sorted(found, key=lambda group: (-group.reclaimable, group.name))), failures


def _digest_candidates(workspace: Workspace, progress: Progress) -> Iterator[Failure]:
    assets = [
        asset for asset in workspace.library.assets("-is:missing -is:offline") if asset.parameters
    ]
    alike = Counter(map(_counts, assets))
    for asset in assets:
        if asset.hashes["weights"] is not None or alike[_counts(asset)] < 2 or asset.path is None:
            continue
        try:
            state = open_model(asset.path).state_dict
            progress.stage(f"reading {asset.name}", asset.bytes)
            weights = weigh(state, canonical_parts(state, asset.kind), progress)
            workspace.library.record_weights(asset.id, weights)
        except FileProblem as error:
            yield Failure.of(error, asset.path)


def _counts(asset: Asset) -> tuple[int, int, tuple[tuple[str, int], ...]]:
    return asset.tensors, asset.parameters, tuple(sorted(asset.dtypes.items()))


def _equal(assets: Iterable[Asset], by: str) -> Iterator[tuple[str, list[Asset]]]:
    name = "blake3" if by == "file" else "weights"
    keyed = [(key, asset) for asset in assets if (key := asset.hashes[name]) is not None]
    keyed.sort(key=lambda pair: (pair[0], pair[1].id))
    for key, members in groupby(keyed, key=lambda pair: pair[0]):
        yield key, [asset for _, asset in members]


def _group(key: str, members: list[Asset]) -> Group:
    places = [(asset, file) for asset in members for file in asset.files]
    present = [(asset, file) for asset, file in places if file.here and file.state == "present"]
    symbolic = {file.path for _, file in present if os.path.islink(file.path)}  # noqa: PTH114 - never raises
    present.sort(key=lambda pair: (pair[1].path in symbolic, pair[1].path))
    seen: set[int] = set()
    copies = tuple(_copy(asset, file, seen, symbolic) for asset, file in present)
    return Group(key, members[0].name, members[0].kind, copies)


def _copy(asset: Asset, file: File, seen: set[int], symbolic: set[str]) -> Copy:
    """Hard links have one inode; the first of them is the one that takes the room."""
    is_hard = file.inode in seen and file.inode != 0
    seen.add(file.inode)
    link = Link.SYMBOLIC if file.path in symbolic else Link.HARD if is_hard else None
    return Copy(asset.id, file.path, file.bytes, link)
