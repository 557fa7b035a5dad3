"""Which tensors two models differ in, and in which components."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.assetref import find_file
from converters.bytesource import Fingerprint
from converters.containers import Container, Model, open_model
from converters.diff import Difference, are_comparable, differences, digest_differences
from converters.errors import AssetNotFound, FileMissing, FileProblem
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
    """Compare two models by names, types, shapes and values.

    A pipeline is compared with a file as its single file. Models that are as the library saw them,
    with the digests of their tensors, are not opened, and need not be there; but for a pipeline and
    a file, whose tensors have other names. Raises AssetNotFound, AmbiguousAsset, and FileProblem
    for what is not readable.
    """
    sides = [_side(workspace, reference) for reference in (first, second)]
    by_component = all(side.is_pipeline for side in sides)
    of_name = _folder_of if by_component else component_of
    places = [side.place for side in sides]
    known = [side.tensors for side in sides if side.tensors is not None]
    are_alike = len({side.is_pipeline for side in sides}) == 1
    if len(known) == len(sides) and are_alike and are_comparable(*known):
        told = tuple(digest_differences(*known))
        # Two checksums may be the same by chance, or on purpose.
        if told or len({side.whole for side in sides}) == 1:
            return _comparison(places, {*known[0], *known[1]}, told, of_name, from_index=True)
    left, right = (open_model(place) for place in places)
    ours, theirs = ((m.state_dict if by_component else _single(m)) for m in (left, right))
    progress.stage("comparing", min(ours.nbytes, theirs.nbytes))
    found = differences(ours, theirs, progress)
    return _comparison(places, {*ours, *theirs}, found, of_name, from_index=False)


@dataclass(frozen=True, slots=True)
class _Side:
    """Where a model is, or was, and its tensors as far as the library knows them.

    `whole` is the digest of all of them.
    """

    place: str
    is_pipeline: bool
    tensors: _Tensors | None
    whole: str | None


def _side(workspace: Workspace, reference: str) -> _Side:
    try:
        path = _there(find_file(workspace, reference))
    except FileMissing as missing:
        asset = _lost(workspace, reference)
        tensors = None if asset is None else workspace.library.tensors(asset.id)
        if asset is None or tensors is None:
            raise missing from None
        place = asset.files[0].path if asset.files else asset.name
        is_pipeline = asset.container == Container.DIFFUSERS
        return _Side(place, is_pipeline, tensors, asset.hashes["weights"])
    asset = _known(workspace, path)
    known = None if asset is None else _digests(workspace, asset)
    whole = None if asset is None else asset.hashes["weights"]
    return _Side(str(path), path.is_dir(), known, whole)


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
    places: Sequence[str],
    names: Collection[str],
    differing: Iterable[Difference],
    of_name: Callable[[str], str],
    *,
    from_index: bool,
) -> Comparison:
    found = tuple(differing)
    everything = Counter(map(of_name, names))
    different = Counter(of_name(each.name) for each in found)
    parts = tuple(
        Part(name, everything[name] - different[name], different[name])
        for name in sorted(everything)
    )
    return Comparison(places[0], places[1], parts, found, from_index)


def _known(workspace: Workspace, path: Path) -> Asset | None:
    """The asset of a model; None when the library does not know it, or it changed."""
    from registry.errors import LibraryUnusable
    from registry.on_disk import fingerprint_of
    from registry.places import canonical

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


def _folder_of(name: str) -> str:
    """The component of a tensor of a pipeline."""
    return name.partition(".")[0]


def _single(model: Model) -> StateDict:
    state = model.state_dict
    if model.container is not Container.DIFFUSERS:
        return state
    return to_single_file(pipeline_parts(state), state.metadata).state
