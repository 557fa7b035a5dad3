"""Convert models to another container or precision, run as one stream."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from assetmgr.operations.convert.change import DTYPES, Change, recast
from assetmgr.operations.convert.plan import ConvertPlan
from assetmgr.operations.derive import Derivation, parent_of, register_derived
from converters.adapters.opening import files_in
from converters.diff import differences
from converters.errors import Overflow, WriteFailed
from converters.progress import SILENT, Progress
from converters.statedict import StateDict
from converters.transform.cast import CastLog, CastLoss, OnOverflow, overflowing
from converters.transform.metadata import Parent
from converters.writers.safetensors import Written

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace


@dataclass(frozen=True, slots=True)
class ConvertResult:
    """A conversion that was made; `assets` are the numbers of its models in the library.

    `losses` are what the change of precision cost, `warnings` those of the plan and of the data.
    """

    plan: ConvertPlan
    written: Written
    losses: tuple[CastLoss, ...]
    warnings: tuple[str, ...]
    verified: bool
    seconds: float
    assets: Sequence[int]

    def to_json(self) -> dict[str, object]:
        """The document of the contract."""
        return self.plan.to_json() | {
            "bytes": self.written.nbytes,
            "seconds": self.seconds,
            "hashes": _hashes_json(self.written),
            "warnings": list(self.warnings),
            "losses": [asdict(loss) for loss in self.losses],
            "verified": self.verified,
            "asset": self.assets[0] if len(self.assets) == 1 else None,
        }


@dataclass(frozen=True, slots=True)
class Converted:
    """A target that was written and that the library does not know yet."""

    parents: tuple[Parent, ...]
    written: Written
    losses: tuple[CastLoss, ...]
    warnings: tuple[str, ...]
    verified: bool


def _hashes_json(written: Written) -> dict[str, str | None] | None:
    if written.hashes is None:
        return None
    names = ("blake3", "sha256", "crc32", "autov1", "autov2", "autov3")
    return {name: getattr(written.hashes, name) for name in names}


def run_convert(
    workspace: Workspace,
    plan: ConvertPlan,
    progress: Progress = SILENT,
    *,
    verify: bool = False,
) -> ConvertResult:
    """Write the target and register it; with `verify` it is read again and compared first.

    Raises WriteProblem, FileProblem, Overflow when the change says so, or Cancelled.
    """
    started = time.perf_counter()
    parents = [parent_of(workspace, path, progress) for path in plan.parent_paths]
    made = write_converted(plan, parents, progress, verify=verify)
    return registered(workspace, plan, made, started)


def write_converted(
    plan: ConvertPlan, parents: Sequence[Parent], progress: Progress = SILENT, *, verify: bool
) -> Converted:
    """Write the target, and compare it with what was meant. Raises as `run_convert`."""
    log = CastLog()
    state, written, kept = _write(plan, parents, log, progress)
    if verify:
        _verify(
            plan.format.seen(state, plan.identity),
            plan,
            progress,
        )
    losses = tuple(loss for _, loss in sorted(log.losses.items()))
    warnings = (*plan.warnings, *_data_warnings(plan.change, losses, kept))
    return Converted(tuple(parents), written, losses, warnings, verify)


def registered(
    workspace: Workspace, plan: ConvertPlan, made: Converted, started: float
) -> ConvertResult:
    """A target that was written, in the library; `started` is a time of `perf_counter`."""
    derivation = Derivation(plan.change.operation, plan.change.parameters(), made.parents)
    models = files_in(plan.target) or (plan.format.model(plan.target),)
    numbers = [
        register_derived(workspace, model, made.written.hashes, derivation) for model in models
    ]
    seconds = time.perf_counter() - started
    return ConvertResult(
        plan, made.written, made.losses, made.warnings, made.verified, seconds, numbers
    )


def _write(
    plan: ConvertPlan, parents: Sequence[Parent], log: CastLog, progress: Progress
) -> tuple[StateDict, Written, frozenset[str]]:
    """The tensors as written, the file, and the names that kept their type.

    Overflow is rare and known only from the data. So the file is written as if there were none; the
    first tensor that overflows stops that, all data is looked through, and it is written anew.
    """

    def write(kept: frozenset[str]) -> tuple[StateDict, Written, frozenset[str]]:
        log.losses.clear()
        state = plan.described(recast(plan.stored, plan.change, kept, log), parents)
        written = plan.format.write(state, plan.identity, plan.target, plan.overwrite, progress)
        return state, written, kept

    try:
        return write(frozenset())
    except Overflow:
        dtype = DTYPES.get(plan.change.dtype)
        if plan.change.on_overflow is not OnOverflow.KEEP or dtype is None:
            raise
        progress.stage("looking for values that do not fit", plan.stored.nbytes)
        return write(overflowing(plan.stored, dtype, progress))


def _verify(state: StateDict, plan: ConvertPlan, progress: Progress) -> None:
    """Compare the file with what was meant. Removes it and raises WriteFailed where it differs."""
    target = plan.target
    progress.stage(f"verifying {target.name}", state.nbytes)
    difference = next(differences(state, plan.format.read(target), progress, as_stored=False), None)
    if difference is not None:
        shutil.rmtree(target) if target.is_dir() else target.unlink()
        raise WriteFailed(
            f"was not written as meant: {difference.name} {difference.how}", path=target
        )


def _data_warnings(
    change: Change, losses: Sequence[CastLoss], kept: Collection[str]
) -> Iterator[str]:
    clamped = [loss.tensor for loss in losses if loss.clamped]
    broken = [loss.tensor for loss in losses if loss.nan]
    for names, what in (
        (sorted(kept), f"keep their precision: values too large for {change.dtype}"),
        (clamped, f"had values too large for {change.dtype}; they were clamped"),
        (broken, "hold NaN"),
    ):
        if names:
            yield f"{len(names)} tensors {what} ({', '.join(names[:3])}{', …' * (len(names) > 3)})"
