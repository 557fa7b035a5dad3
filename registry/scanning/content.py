"""What the library keeps of the inside of a file, from its headers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from converters.bases import Base, Prediction
from converters.containers import Inspected, Model
from converters.errors import FileProblem
from converters.kinds import Kind
from converters.pickles.verdict import SAFE_NO_CODE
from converters.statedict import StateDict
from converters.stored import StoredTensors
from registry.scanning.scan_records import Content


def understood(model: Model) -> Content:
    """What an opened file is and holds."""
    from converters.identify.beside import identify_file  # not for scans that find nothing new

    state = model.state_dict
    identity = identify_file(Path(model.path), state)
    dtypes, parameters = _counts(state)
    return Content(
        kind=identity.kind,
        base=identity.base,
        variant=identity.variant,
        prediction=identity.prediction,
        algorithm=identity.algorithm,
        layout=identity.layout,
        container=model.container,
        rank=identity.rank,
        dtypes=dtypes,
        tensors=len(state),
        parameters=parameters,
        components=identity.components,
        confidence=identity.confidence,
        evidence=identity.evidence,
        problems=_each_once(model.problems, identity.problems),
        trigger_words=identity.trigger_words,
        metadata=state.metadata,
        safety=model.safety,
    )


def not_understood(problem: FileProblem) -> Content:
    """A file that cannot be opened: unknown, with the reason."""
    return Content(
        kind=Kind.UNKNOWN,
        base=Base.UNKNOWN,
        variant=None,
        prediction=Prediction.UNKNOWN,
        algorithm=(),
        layout=None,
        container=None,
        rank=None,
        dtypes={},
        tensors=0,
        parameters=0,
        components=(),
        confidence=0.0,
        evidence=(),
        problems=(problem.cause,),
        trigger_words=(),
        metadata={},
        safety=problem.safety if isinstance(problem, Inspected) else SAFE_NO_CODE,
    )


def _counts(state: StateDict) -> tuple[Mapping[str, int], int]:
    """Tensors of each type, and numbers in all; the same for all files of one structure."""
    if isinstance(state.tensors, StoredTensors):
        return state.tensors.structure.dtypes, state.tensors.structure.parameters
    return Counter(tensor.dtype.label for tensor in state.values()), state.parameters


def _each_once(*texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for some in texts for text in some))
