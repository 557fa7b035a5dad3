"""Which tensors two models differ in, and in which components."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from assetmgr.assetref import find_file
from converters.containers import Container, Model, open_model
from converters.diff import Difference, differences
from converters.layouts.components import component_of
from converters.layouts.pipeline import pipeline_parts, to_single_file
from converters.progress import SILENT, Progress
from converters.statedict import StateDict

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Part:
    """A component: how many of its tensors are the same, and how many are not."""

    name: str
    same: int
    different: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models tensor by tensor."""

    a: str
    b: str
    components: tuple[Part, ...]
    differences: tuple[Difference, ...]

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

    Raises AssetNotFound, AmbiguousAsset, and FileProblem for what cannot be read.
    """
    paths = [find_file(workspace, reference) for reference in (first, second)]
    left, right = (_single(open_model(path)) for path in paths)
    progress.stage("comparing", min(left.nbytes, right.nbytes))
    found = tuple(differences(left, right, progress))
    everything = Counter(component_of(name) for name in {*left, *right})
    different = Counter(component_of(each.name) for each in found)
    parts = tuple(
        Part(name, everything[name] - different[name], different[name])
        for name in sorted(everything)
    )
    return Comparison(str(paths[0]), str(paths[1]), parts, found)


def _single(model: Model) -> StateDict:
    state = model.state_dict
    if model.container is not Container.DIFFUSERS:
        return state
    return to_single_file(pipeline_parts(state), state.metadata).state
