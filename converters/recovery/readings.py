"""What was read of models and computed of adapters, kept for the next question."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from converters.adapters.targets import module_targets
from converters.errors import AssetmgrError, MergeProblem
from converters.layouts.components import UNET, UNET_EMA
from converters.progress import SILENT, Progress
from converters.recovery.deltas import Changes, changes_of, delta_of
from converters.recovery.least_squares import Sampled
from converters.recovery.parts import Parts, full_name, joined
from converters.recovery.rounding import grid_of
from converters.recovery.sampling import Sample, read_sample
from converters.statedict import StateDict

_WORKERS = 4
_NOT_FINITE = "holds NaN or infinite values"


@dataclass(frozen=True, slots=True, order=True)
class Source:
    """A candidate: which model and which of its components, or which adapter.

    `number` counts the models, or the adapters, as they were given.
    """

    number: int
    part: str = ""
    is_adapter: bool = False


@dataclass
class Readings:
    """The candidates of an inquiry, and their values on samples.

    `changes` is what each adapter that can be compared does to which tensors. `left_out` gives the
    reason for each model or adapter that could not be compared; `nbytes` counts what was read.
    """

    parts: Parts
    models: Sequence[Parts]
    progress: Progress = SILENT
    left_out: dict[Source, str] = field(default_factory=dict)
    nbytes: int = 0
    changes: dict[int, Changes] = field(default_factory=dict)
    _kept: dict[tuple[Source, Sample], Sampled] = field(default_factory=dict)

    def look_at(self, adapters: Sequence[StateDict]) -> None:
        """Find out what adapters would do to the checkpoint. Reads no tensor data."""
        targets = module_targets(joined(self.parts))
        for number, adapter in enumerate(adapters):
            try:
                self.changes[number] = changes_of(adapter, targets)
            except AssetmgrError as error:
                self.left_out[Source(number, is_adapter=True)] = error.cause

    def having(self, component: str) -> list[Source]:
        """The models that have a component; their averages of a UNet are models of their own."""
        names = (component, UNET_EMA) if component == UNET else (component,)
        return [
            Source(number, name)
            for number, parts in enumerate(self.models)
            for name in names
            if parts.get(name)
        ]

    def part(self, source: Source) -> StateDict:
        """The component of a model."""
        return self.models[source.number][source.part]

    def target(self, component: str, sample: Sample) -> Sampled:
        """The checkpoint's own values. Raises FileProblem, MergeProblem for NaN and infinities."""
        found = self._values(self.parts[component], sample)
        if isinstance(found, str):
            raise MergeProblem(f"its {component} {found}")
        return found

    def of_models(self, sources: Sequence[Source], sample: Sample) -> dict[Source, Sampled]:
        """The models' values on a sample; those that cannot be read are left out."""
        missing = [source for source in sources if (source, sample) not in self._kept]
        self.progress.stage("reading samples", len(missing), "models")
        with ThreadPoolExecutor(_WORKERS) as pool:
            values = pool.map(partial(self._try, sample), missing)
            for source, found in zip(missing, values, strict=True):
                self._keep(source, sample, found)
                self.progress.advance()
        return self._found(sources, sample)

    def of_adapters(
        self, component: str, numbers: Sequence[int], sample: Sample
    ) -> dict[Source, Sampled]:
        """What adapters add to a sample of a component; those that add nothing are not there."""
        sources = [Source(number, component, is_adapter=True) for number in numbers]
        self.progress.stage("computing adapters", len(sources), "adapters")
        for source in sources:
            if (source, sample) not in self._kept:
                self._compute(source, sample)
            self.progress.advance()
        return self._found(sources, sample)

    def _found(self, sources: Sequence[Source], sample: Sample) -> dict[Source, Sampled]:
        kept = {source: self._kept.get((source, sample)) for source in sources}
        return {source: found for source, found in kept.items() if found is not None}

    def _keep(self, source: Source, sample: Sample, found: Sampled | str) -> None:
        if isinstance(found, str):
            self.left_out[source] = found
            return
        self._kept[source, sample] = found
        part = self.part(source)
        self.nbytes += sum(part[run.name].dtype.nbytes(run.numel) for run in sample.runs)

    def _try(self, sample: Sample, source: Source) -> Sampled | str:
        """The values of a model, or why there are none."""
        try:
            return self._values(self.part(source), sample)
        except AssetmgrError as error:
            return error.cause

    def _values(self, part: StateDict, sample: Sample) -> Sampled | str:
        import numpy as np

        values = read_sample(part, sample)
        if not np.isfinite(values).all():
            return _NOT_FINITE
        dtype = max((part[run.name].dtype for run in sample.runs), key=lambda kind: kind.bits)
        return Sampled(values, grid_of(values, dtype))

    def _compute(self, source: Source, sample: Sample) -> None:
        changes = self.changes[source.number]
        try:
            delta = delta_of(changes, source.part, self.parts, sample)
        except AssetmgrError as error:
            self.left_out[Source(source.number, is_adapter=True)] = error.cause
            return
        self.nbytes += _nbytes(changes, source.part, self.parts, sample)
        if delta is not None:
            self._kept[source, sample] = Sampled(delta)


def _nbytes(changes: Changes, component: str, parts: Parts, sample: Sample) -> int:
    names = {full_name(component, parts, run.name) for run in sample.runs}
    placed = [place for name in names for place in changes.get(name, ())]
    return sum(tensor.nbytes for place in placed for tensor in place.inputs)
