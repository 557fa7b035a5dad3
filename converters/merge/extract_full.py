"""The whole difference of two checkpoints as an adapter: what each layer, bias and norm differs in.

Added to the base it gives the tuned checkpoint again, but for rounding. Nothing is held in memory;
tensors that are equal are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from converters.adapters import load_adapter
from converters.adapters.finite import all_finite
from converters.adapters.targets import module_targets
from converters.dtypes import DType
from converters.errors import MergeProblem, UnsupportedFile
from converters.merge.checkpoints.fitting import Model, require_family
from converters.merge.fitting import fit_modules
from converters.merge.lora_modules import full_keys
from converters.progress import SILENT, Progress
from converters.statedict import LazyTensor, StateDict

if TYPE_CHECKING:
    from converters.compute import Tensor


@dataclass(frozen=True, slots=True)
class FullPlan:
    """The differences as a lazy adapter; `left_out` are keys that only one model, or no layer, has.

    `pairs` are both models' tensors by key.
    """

    state: StateDict
    pairs: dict[str, tuple[LazyTensor, LazyTensor]]
    left_out: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """Bytes that comparing reads."""
        return sum(ours.nbytes + theirs.nbytes for ours, theirs in self.pairs.values())


def plan_full(tuned: Model, base: Model, dtype: DType) -> FullPlan:
    """Compare two checkpoints by names and shapes. Reads no tensor data.

    Raises WrongFamily or UnsupportedFile for models that cannot be compared, MergeProblem naming
    the first tensor whose shapes differ.
    """
    require_family([base, tuned])
    ours = full_keys(tuned.state, tuned.identity.base)
    theirs = full_keys(base.state, base.identity.base)
    pairs = {key: (ours[key], theirs[key]) for key in ours if key in theirs}
    for key, (first, second) in pairs.items():
        if first.shape != second.shape:
            raise MergeProblem(
                f"{key} has shape {list(first.shape)}, but {list(second.shape)} in {base.name}",
                path=tuned.name,
            )
    state = StateDict({key: _difference(key, pairs[key], tuned, base, dtype) for key in pairs})
    fit = fit_modules(load_adapter(state), module_targets(base.state))
    pairs = {key: pair for key, pair in pairs.items() if key not in fit.unused}
    left_out = (*sorted(ours.keys() ^ theirs.keys()), *sorted(fit.unused))
    if not pairs:
        raise UnsupportedFile("has no weight in common with the base", path=tuned.name)
    return FullPlan(state.drop(set(fit.unused)), pairs, left_out)


def without_equal(plan: FullPlan, progress: Progress = SILENT) -> StateDict:
    """The adapter without what is equal in both models; reads both. Raises FileProblem."""
    equal = set(_equal(plan, progress))
    return plan.state.drop(equal)


def _equal(plan: FullPlan, progress: Progress) -> Iterator[str]:
    for key, (ours, theirs) in plan.pairs.items():
        if ours.dtype is theirs.dtype and ours.read() == theirs.read():
            yield key
        progress.advance(ours.nbytes + theirs.nbytes)


def _difference(
    key: str, pair: tuple[LazyTensor, LazyTensor], tuned: Model, base: Model, dtype: DType
) -> LazyTensor:
    from converters.compute import lazy

    compute = partial(_compute, key, pair, (tuned.name, base.name), dtype)
    return lazy(dtype, pair[0].shape, compute, f"{tuned.name} - {base.name}: {key}", inputs=pair)


def _compute(
    key: str, pair: tuple[LazyTensor, LazyTensor], files: tuple[str, str], dtype: DType
) -> Tensor:
    """The difference in float32, rounded once. Raises MergeProblem for what is not finite."""
    from converters.compute import torch_dtype, value

    ours, theirs = (value(tensor).float() for tensor in pair)
    result = (ours - theirs).to(torch_dtype(dtype))
    if not all_finite(result.float()):
        broken = [
            file for file, each in zip(files, (ours, theirs), strict=True) if not all_finite(each)
        ]
        cause = (
            "holds NaN or infinite values"
            if broken
            else f"differs by more than {dtype.label} holds"
        )
        raise MergeProblem(f"{key} {cause}", path=(broken or files)[0])
    return result
