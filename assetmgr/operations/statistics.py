"""What the numbers of a model's tensors are like: reads the tensors that are asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from converters.errors import UnsupportedFile
from converters.progress import SILENT, Progress
from converters.statedict import StateDict
from converters.statistics import Statistics, statistics

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace


def tensor_statistics(
    state: StateDict, names: Collection[str] | None = None, progress: Progress = SILENT
) -> Iterator[tuple[str, Statistics | None]]:
    """The statistics of all tensors, or of some; None for types that are not looked into.

    Raises FileProblem, Cancelled.
    """
    wanted = {name: t for name, t in state.items() if names is None or name in names}
    progress.stage("reading tensors", sum(tensor.nbytes for tensor in wanted.values()))
    for name, tensor in wanted.items():
        try:
            yield name, statistics(tensor, progress)
        except UnsupportedFile:
            yield name, None


def statistics_of_file(
    workspace: Workspace, reference: str, names: Collection[str], progress: Progress = SILENT
) -> dict[str, Statistics | None]:
    """The statistics of some tensors of a file. Raises AssetNotFound, FileProblem, Cancelled."""
    from assetmgr.assetref import find_file
    from converters.containers import open_model

    state = open_model(find_file(workspace, reference)).state_dict
    return dict(tensor_statistics(state, names, progress))
