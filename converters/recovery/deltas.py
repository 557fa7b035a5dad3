"""What an adapter adds to the rows of a sample, computed as the merge engine does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from converters.adapters import family_of, load_adapter
from converters.adapters.dora import MAGNITUDES
from converters.adapters.places import Place
from converters.adapters.targets import Target
from converters.errors import UnsupportedFile
from converters.merge.changes import View
from converters.merge.fitting import Placed, fit_modules
from converters.recovery.parts import Parts, full_name
from converters.recovery.sampling import Run, Sample
from converters.statedict import StateDict

if TYPE_CHECKING:
    from converters.compute import Tensor
    from converters.recovery.sampling import Values

Changes = Mapping[str, Sequence[Placed]]
"""Name of a tensor in all of the model -> what an adapter does to it."""


def changes_of(adapter: StateDict, targets: Mapping[Place, Target]) -> Changes:
    """What an adapter adds to the tensors of a model. Reads no tensor data.

    Raises UnsupportedFile for one whose effect depends on the weights it meets, or that fits no
    layer; MergeProblem for one that is broken.
    """
    loaded = load_adapter(adapter)
    for module in loaded.modules:
        if not family_of(module).adds or MAGNITUDES & module.tensors.keys():
            raise UnsupportedFile("what it does depends on the weights it meets")
    fit = fit_modules(loaded, targets)
    if fit.misfit is not None:
        raise fit.misfit
    found: defaultdict[str, list[Placed]] = defaultdict(list)
    for placed in fit.placed:
        found[placed.tensor].append(placed)
    if not found:
        raise UnsupportedFile("changes no layer of this model")
    return found


def delta_of(changes: Changes, component: str, parts: Parts, sample: Sample) -> Values | None:
    """What is added to the values of a sample with weight 1; None where that is nothing.

    Raises MergeProblem for an adapter whose values are not finite.
    """
    import numpy as np

    values = np.zeros(sample.numel, np.float32)
    at = 0
    for run in sample.runs:
        placed = changes.get(full_name(component, parts, run.name), ())
        for rows in _rows(placed, run):
            values[at : at + run.numel] += rows.reshape(-1).numpy()
        at += run.numel
    return values if values.any() else None


def _rows(placed: Sequence[Placed], run: Run) -> Iterator[Tensor]:
    for place in placed:
        if place.factors is not None and place.view == View():
            factors = place.factors()
            yield factors.up[run.start : run.stop] @ factors.down * factors.scale
        else:
            yield _whole(place, run)[run.start : run.stop]


def _whole(place: Placed, run: Run) -> Tensor:
    """The change of all of a tensor, for what cannot be had by rows."""
    from converters.compute import zeros

    whole = zeros(run.shape)
    part = place.view.of(whole)
    own = part.contiguous()
    place.apply(own, 1.0)
    if not part.is_contiguous():
        part.copy_(own)
    return whole
