"""A checkpoint as a merge takes it: the tensors of one file, even of a pipeline's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from assetmgr.operations.convert.change import DTYPES
from converters.containers import open_model
from converters.dtypes import DType
from converters.errors import UnsupportedFile, naming
from converters.layouts.pipeline import (
    TRANSFORMER,
    is_pipeline_state,
    pipeline_parts,
    to_single_file,
)
from converters.statedict import StateDict


@dataclass(frozen=True, slots=True)
class OpenedCheckpoint:
    """Its tensors, and notes about what one file leaves out or makes up of a folder.

    A pipeline with a transformer has no single file here: `is_pipeline` is then true, and the
    tensors have the names of the folder.
    """

    state: StateDict
    notes: tuple[str, ...] = ()
    is_pipeline: bool = False


def open_checkpoint(path: Path) -> OpenedCheckpoint:
    """Open a checkpoint. Raises FileProblem, UnsupportedFile for one without tensors."""
    state = open_model(path).state_dict
    if not state:
        raise UnsupportedFile("holds no tensors", path=path)
    if not is_pipeline_state(state):
        return OpenedCheckpoint(state)
    parts = pipeline_parts(state)
    if TRANSFORMER in parts:
        return OpenedCheckpoint(state, is_pipeline=True)
    with naming(path):
        single = to_single_file(parts, state.metadata)
    return OpenedCheckpoint(single.state, single.notes)


def widened_note(state: StateDict, dtype: str) -> tuple[str, ...]:
    """That the values of quantised blocks are written as the numbers they stand for."""
    count = sum(t.extents is None and t.dtype is DType.F32 for t in state.values())
    if not count or DTYPES[dtype] is not None:
        return ()
    return (f"{count} quantised tensors are written in fp32; --dtype fp16 halves the file",)
