"""What is inside of files: their tensors as a tree, and how two files differ.

Everything here blocks and is called in threads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tui.text import plain, size

if TYPE_CHECKING:
    from assetmgr.operations.diff import Comparison
    from assetmgr.workspace import Workspace
    from converters.progress import Progress
    from converters.statistics import Statistics

SEPARATOR = "."
LONGEST_DEPTH = 32
"""Deeper names keep the rest in one piece: a name of ten thousand dots is nobody's structure."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor as a header tells of it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


@dataclass(frozen=True, slots=True)
class Contents:
    """The tensors of a file, in its order, and the texts of its header."""

    name: str
    facts: str
    tensors: tuple[Tensor, ...]
    metadata: Mapping[str, str]


@dataclass(slots=True)
class Branch:
    """A part of names with what is below it; a leaf has a `tensor`."""

    label: str
    path: str
    tensor: Tensor | None = None
    below: dict[str, Branch] = field(default_factory=dict)
    count: int = 0
    nbytes: int = 0


class Inside:
    """Files of assets of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def contents(self, reference: str) -> Contents:
        """The tensors of a file. Raises AssetNotFound, FileProblem."""
        from assetmgr.assetref import find_file
        from converters.containers import open_model

        path = find_file(self._workspace, reference)
        model = open_model(path)
        tensors = tuple(
            Tensor(name, tensor.dtype.label, tuple(tensor.shape), tensor.nbytes)
            for name, tensor in model.state_dict.items()
        )
        facts = f"{model.container.value}, {len(tensors):,} tensors, {size(model.nbytes)}"
        return Contents(path.name, facts, tensors, model.state_dict.metadata)

    def statistics(
        self, reference: str, names: Collection[str], progress: Progress
    ) -> Mapping[str, Statistics | None]:
        """What the numbers of some tensors are like; reads them. Raises FileProblem, Cancelled."""
        from assetmgr.operations.statistics import statistics_of_file

        return statistics_of_file(self._workspace, reference, names, progress)

    def compare(self, first: str, second: str, progress: Progress) -> Comparison:
        """Two files tensor by tensor; reads both. Raises AssetNotFound, FileProblem, Cancelled."""
        from assetmgr.operations.diff import compare

        return compare(self._workspace, first, second, progress)


def tree(tensors: Sequence[Tensor]) -> Branch:
    """The names as a tree; a chain of parts that never forks is one branch."""
    root = Branch("", "")
    for tensor in tensors:
        _add(root, tensor)
    for branch in root.below.values():
        _join(branch)
    return root


def _add(root: Branch, tensor: Tensor) -> None:
    branch = root
    parts = tensor.name.split(SEPARATOR, LONGEST_DEPTH)
    for number, part in enumerate(parts, 1):
        branch.count += 1
        branch.nbytes += tensor.nbytes
        if part not in branch.below:
            branch.below[part] = Branch(part, SEPARATOR.join(parts[:number]))
        branch = branch.below[part]
    branch.count, branch.nbytes, branch.tensor = 1, tensor.nbytes, tensor


def _join(branch: Branch) -> None:
    """Let a branch with a single one below it take its place."""
    while len(branch.below) == 1 and branch.tensor is None:
        (only,) = branch.below.values()
        branch.label += SEPARATOR + only.label
        branch.path, branch.tensor, branch.below = only.path, only.tensor, only.below
    for below in branch.below.values():
        _join(below)


def visible(root: Branch, opened: set[str], depth: int = 0) -> Iterator[tuple[int, Branch]]:
    """The branches that are to be seen, with their depth: those below opened ones too."""
    for branch in root.below.values():
        yield depth, branch
        if branch.path in opened:
            yield from visible(branch, opened, depth + 1)


def found(tensors: Sequence[Tensor], words: str) -> Iterator[Tensor]:
    """The tensors whose name, type or shape hold every word."""
    wanted = words.lower().split()
    for tensor in tensors:
        text = f"{tensor.name} {tensor.dtype} {shape(tensor)}".lower()
        if all(word in text for word in wanted):
            yield tensor


def shape(tensor: Tensor) -> str:
    """A shape as people write it.

    >>> shape(Tensor("w", "F16", (320, 4, 3, 3), 0)), shape(Tensor("alpha", "F32", (), 0))
    ('320×4×3×3', 'scalar')
    """
    return "×".join(map(str, tensor.shape)) or "scalar"


def names_below(branch: Branch) -> Iterator[str]:
    """The names of the tensors of a branch."""
    if branch.tensor is not None:
        yield branch.tensor.name
    for below in branch.below.values():
        yield from names_below(below)


def numbers(found: Statistics | None) -> str:
    """What is said of a tensor's numbers, in one line."""
    if found is None:
        return "numbers of this type are not looked into"
    if found.mean is None:
        return "no number is finite" if found.numbers else "empty"
    said = [
        f"{found.minimum:.4g} … {found.maximum:.4g}",
        f"mean {found.mean:.4g}",
        f"± {found.deviation:.4g}",
    ]
    if found.zeros:
        said.append(f"{found.zeros / found.numbers:.0%} zeros")
    if found.non_finite:
        said.append(f"{found.non_finite:,} NOT FINITE")
    return "  ".join(said)


def label(branch: Branch, *, opened: bool) -> str:
    """A line of the tree, without its indentation."""
    mark = "  " if not branch.below else "▾ " if opened else "▸ "
    return mark + plain(branch.label or "(no name)")
