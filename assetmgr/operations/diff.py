"""Which tensors two models differ in, and in which components."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.assetref import find_file
from converters.bytesource import Fingerprint
from converters.containers import Container, Model, open_model
from converters.diff import Difference, differences, digest_differences
from converters.errors import AssetNotFound, FileMissing
from converters.layouts.components import component_of
from converters.layouts.pipeline import pipeline_parts, to_single_file
from converters.progress import SILENT, Progress
from converters.statedict import StateDict

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from converters.weights import TensorDigest
    from registry.records import Asset

    _Tensors = Mapping[str, TensorDigest]


@dataclass(frozen=True, slots=True)
class Part:
    """A component: how many of its tensors are the same, and how many are not."""

    name: str
    same: int
    different: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models tensor by tensor; `from_index` when the library knew both without a look."""

    a: str
    b: str
    components: tuple[Part, ...]
    differences: tuple[Difference, ...]
    from_index: bool

    @property
    def equal(self) -> bool:
        """Whether both hold the same tensors."""
        return not self.differences

    def to_json(self) -> dict[str, object]:
        """The document of the command."""
        return asdict(self) | {"equal": self.equal}


def compare(
    workspace: Workspace, first: str, second: str, progress: Progress = SILENT
) -> Comparison:
    """Compare two models by names, types, shapes and values; pipelines as their single files.

    Files that are as the library saw them, with the digests of their tensors, are not opened, and
    need not be there. Raises AssetNotFound, AmbiguousAsset, and FileProblem for what is not
    readable.
    """
    sides = [_side(workspace, reference) for reference in (first, second)]
    places = [place for place, _ in sides]
    known = [tensors for _, tensors in sides if tensors is not None]
    if len(known) == len(sides):
        found = digest_differences(*known)
        return _comparison(places, {*known[0], *known[1]}, found, from_index=True)
    left, right = (_single(open_model(place)) for place in places)
    progress.stage("comparing", min(left.nbytes, right.nbytes))
    found = differences(left, right, progress)
    return _comparison(places, {*left, *right}, found, from_index=False)


def _side(workspace: Workspace, reference: str) -> tuple[str, _Tensors | None]:
    """Where a model is, or was, and its tensors as far as the library knows them."""
    try:
        path = find_file(workspace, reference)
    except FileMissing as missing:
        asset = _lost(workspace, reference)
        tensors = None if asset is None else workspace.library.tensors(asset.id)
        if asset is None or tensors is None:
            raise missing from None
        return asset.files[0].path if asset.files else asset.name, tensors
    return str(path), _known(workspace, path)


def _lost(workspace: Workspace, reference: str) -> Asset | None:
    """An asset of which no file is there."""
    from registry.errors import LibraryUnusable

    try:
        return workspace.library.find(reference)
    except (AssetNotFound, LibraryUnusable):
        return None


def _comparison(
    places: Sequence[str],
    names: Collection[str],
    differing: Iterable[Difference],
    *,
    from_index: bool,
) -> Comparison:
    found = tuple(differing)
    everything = Counter(map(component_of, names))
    different = Counter(component_of(each.name) for each in found)
    parts = tuple(
        Part(name, everything[name] - different[name], different[name])
        for name in sorted(everything)
    )
    return Comparison(places[0], places[1], parts, found, from_index)


def _known(workspace: Workspace, path: Path) -> _Tensors | None:
    """The tensors of a file as the library knows them; None when it does not, or it changed.

    Pipelines are left out: their tensors have other names than those that they are compared by.
    """
    from registry.errors import LibraryUnusable
    from registry.places import canonical

    if path.is_dir():
        return None
    place = canonical(path)
    try:
        asset = workspace.library.find(place)
        recorded = [file for file in asset.files if file.path == place and file.here]
        now = Fingerprint.of(path.stat())
        if now not in {Fingerprint(file.bytes, file.mtime_ns, file.inode) for file in recorded}:
            return None
        return workspace.library.tensors(asset.id)
    except (AssetNotFound, LibraryUnusable, OSError):
        return None


def _single(model: Model) -> StateDict:
    state = model.state_dict
    if model.container is not Container.DIFFUSERS:
        return state
    return to_single_file(pipeline_parts(state), state.metadata).state
