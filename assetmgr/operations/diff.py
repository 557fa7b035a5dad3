"""Which tensors two models differ in, and in which components."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assetmgr.assetref import find_file
from converters.bytesource import Fingerprint
from converters.containers import Container, Model, open_model
from converters.diff import Difference, are_comparable, differences, digest_differences
from converters.diff_components import (
    SideBySide,
    Spelled,
    side_by_side,
    spelled,
    spelled_of_digests,
)
from converters.errors import AssetNotFound, FileMissing, FileProblem, UnsupportedFile
from converters.identify import identify
from converters.layouts.components import OTHER, component_of
from converters.layouts.pipeline import pipeline_parts, to_single_file
from converters.progress import SILENT, Progress
from converters.statedict import LazyTensor, StateDict
from converters.weights import DIGEST_BYTES, TensorDigest

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
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
    """Two models tensor by tensor; `from_index` when the library knew both without a look.

    `unlike` are components whose layouts keep their numbers in other tensors: the index cannot tell
    which of them differ, and reading cannot where no single file holds such a pipeline.
    """

    a: str
    b: str
    components: tuple[Part, ...]
    differences: tuple[Difference, ...]
    from_index: bool
    unlike: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether both hold the same tensors, as far as is known."""
        return not self.differences and not self.unlike

    def to_json(self) -> dict[str, object]:
        """The document of the command."""
        return asdict(self) | {"equal": self.equal}


def compare(
    workspace: Workspace,
    first: str,
    second: str,
    progress: Progress = SILENT,
    *,
    read: bool = False,
) -> Comparison:
    """Compare two models by names, types, shapes and values.

    A pipeline and a file are compared component by component, under the names of pipelines. Models
    that are as the library saw them, with the digests of their tensors, are not opened, and need
    not be there; `read` has the files compared all the same. Raises AssetNotFound, AmbiguousAsset,
    and FileProblem for what is not readable.
    """
    left, right = _side(workspace, first), _side(workspace, second)
    told = None if read else _from_index(workspace, left, right)
    return told or _by_reading(left, right, progress)


@dataclass(frozen=True, slots=True)
class _Side:
    """Where a model is, or was, and its asset where the library knows it as it is."""

    place: str
    is_pipeline: bool
    asset: Asset | None


def _side(workspace: Workspace, reference: str) -> _Side:
    try:
        path = _there(find_file(workspace, reference))
    except FileMissing as missing:
        asset = _lost(workspace, reference)
        if asset is None or asset.hashes["weights"] is None:
            raise missing from None
        place = asset.files[0].path if asset.files else asset.name
        return _Side(place, asset.container == Container.DIFFUSERS, asset)
    return _Side(str(path), path.is_dir(), _known(workspace, path))


def _from_index(workspace: Workspace, left: _Side, right: _Side) -> Comparison | None:
    """What the library tells of the two; None where it does not know enough."""
    if left.asset is None or right.asset is None:
        return None
    is_alike = left.is_pipeline is right.is_pipeline
    beside = _known_beside(workspace, left.asset, right.asset, is_alike=is_alike)
    if beside is None or not are_comparable(beside.left, beside.right):
        return None
    told = tuple(digest_differences(beside.left, beside.right))
    is_same = left.asset.hashes["weights"] == right.asset.hashes["weights"]
    # Two checksums may be the same by chance, or on purpose.
    is_sure = told or beside.unlike or is_same or _have_digests(beside)
    return _comparison(left, right, beside, told, from_index=True) if is_sure else None


def _known_beside(
    workspace: Workspace, left: Asset, right: Asset, *, is_alike: bool
) -> SideBySide[TensorDigest] | None:
    ours, theirs = _digests(workspace, left), _digests(workspace, right)
    if ours is None or theirs is None:
        return None
    if is_alike:
        return SideBySide(ours, theirs, ())
    mine, others = _spelled(workspace, left, ours), _spelled(workspace, right, theirs)
    return side_by_side(mine, others) if mine and others else None


def _have_digests(beside: SideBySide[TensorDigest]) -> bool:
    known = (*beside.left.values(), *beside.right.values())
    return all(len(each.digest) == DIGEST_BYTES for each in known)


def _spelled(workspace: Workspace, asset: Asset, tensors: _Tensors) -> Spelled[TensorDigest] | None:
    """The tensors that the library knows by component, as pipelines name them."""
    return spelled_of_digests(workspace.library.component_tensors(asset.id), tensors, asset.kind)


def _by_reading(left: _Side, right: _Side, progress: Progress) -> Comparison:
    models = open_model(left.place), open_model(right.place)
    beside = _beside(*models, is_alike=left.is_pipeline is right.is_pipeline)
    sizes = (sum(tensor.nbytes for tensor in side.values()) for side in (beside.left, beside.right))
    progress.stage("comparing", min(sizes))
    found = differences(StateDict(beside.left), StateDict(beside.right), progress)
    return _comparison(left, right, beside, found, from_index=False)


def _beside(left: Model, right: Model, *, is_alike: bool) -> SideBySide[LazyTensor]:
    """The tensors of two files; where components are unlike, as one file holds them, if one can."""
    ours, theirs = left.state_dict, right.state_dict
    if is_alike:
        return SideBySide(ours, theirs, ())
    found = side_by_side(spelled(ours, identify(ours).kind), spelled(theirs, identify(theirs).kind))
    if not found.unlike:
        return found
    try:
        return SideBySide(_single(left), _single(right), ())
    except UnsupportedFile:
        return found


def _there(path: Path) -> Path:
    """The path; raises FileMissing where no scan noticed yet that nothing is there."""
    if not path.exists():
        raise FileMissing("no such file", path=path)
    return path


def _lost(workspace: Workspace, reference: str) -> Asset | None:
    """An asset of which no file is there."""
    from registry.errors import LibraryUnusable

    try:
        return workspace.library.find(reference)
    except (AssetNotFound, LibraryUnusable):
        return None


def _comparison(
    left: _Side,
    right: _Side,
    beside: SideBySide[Any],
    differing: Iterable[Difference],
    *,
    from_index: bool,
) -> Comparison:
    found = tuple(differing)
    has_pipeline = left.is_pipeline or right.is_pipeline

    def part_of(name: str) -> str:
        component = component_of(name)
        return name.partition(".")[0] if has_pipeline and component == OTHER else component

    everything = Counter(map(part_of, {*beside.left, *beside.right}))
    different = Counter(part_of(each.name) for each in found)
    parts = tuple(
        Part(name, everything[name] - different[name], different[name])
        for name in sorted(everything)
    )
    return Comparison(left.place, right.place, parts, found, from_index, beside.unlike)


def _known(workspace: Workspace, path: Path) -> Asset | None:
    """The asset of a model; None when the library does not know it, or it changed."""
    from registry.errors import LibraryUnusable
    from registry.scanning.on_disk import fingerprint_of
    from registry.scanning.places import canonical

    place = canonical(path)
    try:
        asset = workspace.library.find(place)
        recorded = [file for file in asset.files if file.path == place and file.here]
        now = fingerprint_of(place)
    except (AssetNotFound, LibraryUnusable, FileProblem):
        return None
    known = {Fingerprint(file.bytes, file.mtime_ns, file.inode) for file in recorded}
    return asset if now in known else None


def _digests(workspace: Workspace, asset: Asset) -> _Tensors | None:
    from registry.errors import LibraryUnusable

    try:
        return workspace.library.tensors(asset.id)
    except LibraryUnusable:
        return None


def _single(model: Model) -> StateDict:
    state = model.state_dict
    if model.container is not Container.DIFFUSERS:
        return state
    return to_single_file(pipeline_parts(state), state.metadata).state
