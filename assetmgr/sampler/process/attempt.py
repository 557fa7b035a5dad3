"""One attempt at a job with what memory it may take: rendered, judged, and its files written.

A subject changes the networks only while it is being rendered, so that every job sees the base as
it is in its file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from assetmgr.sampler.adapters.runtime import at_runtime
from assetmgr.sampler.adapters.subjects import Applied, applied
from assetmgr.sampler.images.pictures import write_picture
from assetmgr.sampler.models.bundle import Bundle
from assetmgr.sampler.models.denoising import training_of
from assetmgr.sampler.models.families import half_of
from assetmgr.sampler.models.networks import Incomplete
from assetmgr.sampler.models.schedules import usable_solver
from assetmgr.sampler.process.jobs import Check, ModelFile, RenderJob, RenderOutcome
from assetmgr.sampler.process.warm import (
    Conditions,
    Kept,
    Warm,
    account_of,
    fingerprints,
    load_warm,
    place_of,
)
from assetmgr.sampler.rendering.devices import choose_precision, peak_memory, precision_name
from assetmgr.sampler.rendering.memory import Measure, Thrift
from assetmgr.sampler.rendering.painter import Painter
from assetmgr.sampler.rendering.render import Picture, Sampling
from assetmgr.sampler.rendering.solvers import solver_named
from assetmgr.sampler.rendering.threads import is_small
from assetmgr.sampler.verdicts import judge
from assetmgr.sampler.verdicts.examiner import Examiner
from assetmgr.sampler.verdicts.finiteness import NotFinite
from converters.adapters.opening import open_adapter
from converters.errors import AssetmgrError
from converters.finite import non_finite
from converters.progress import Progress

_Judged = tuple[tuple[Check, ...], Picture | None]


class Attempt:
    """A job on its way; one that memory does not suffice for ends with that error."""

    def __init__(self, kept: Kept, job: RenderJob, thrift: Thrift, progress: Progress) -> None:
        self._kept = kept
        self._job = job
        self._thrift = thrift
        self._device = thrift.device
        self._dtype = choose_precision(job.dtype, thrift.device, half_of(job.family))
        if self._dtype is torch.float16 and fingerprints(job.checkpoint.path) in kept.overflowing:
            self._dtype = torch.float32
        self._progress = progress
        self._load_seconds = 0.0
        sampling = Sampling(
            solver_named(job.sampler), job.steps, job.cfg, job.width, job.height, job.seed
        )
        self._conditions = Conditions(
            job.prompt, job.negative, sampling, job.clip_skip, job.adapters, job.rounded
        )

    def outcome(self) -> tuple[RenderOutcome, Picture | None]:
        """Render, judge and write."""
        started = time.perf_counter()
        checks, picture = self._tried()
        if picture is None and self._widen(checks, is_checkpoint=self._job.base is None):
            checks, picture = self._tried()
        job = self._job
        if job.subject.danger is not None:
            checks = (judge.safe(job.subject.danger), *checks)
        if picture is not None:
            write_picture(picture, job)
        outcome = RenderOutcome(
            image=None if picture is None else job.image,
            thumbnail=None if picture is None else job.thumbnail,
            checks=checks,
            seconds=time.perf_counter() - started,
            load_seconds=self._load_seconds,
            peak_memory_bytes=peak_memory(self._device),
            parameters=job.parameters(self._device.type, precision_name(self._dtype)),
            memory_measures=tuple(sorted(self._thrift.taken)),
            memory_fallbacks=tuple(sorted(self._thrift.forced)),
            one_thread=self._is_in_one_thread,
        )
        return outcome, picture

    @property
    def _is_in_one_thread(self) -> bool:
        warm = self._kept.warm
        if warm is None or self._device.type != "cpu" or warm.bundle.family.flow:
            return False
        return is_small(warm.weights, warm.places(self._conditions.sampling))

    def _tried(self) -> _Judged:
        return self._checkpoint() if self._job.base is None else self._adapter()

    def _widen(self, checks: Sequence[Check], *, is_checkpoint: bool) -> bool:
        """Go on in fp32 when fp16 is too narrow for values on the way, though all weights fit.

        SD2's attention is known for that; where a checkpoint itself is too wide, the next asset on
        it begins so. Whether there is something to try.
        """
        fine = {check.name: check.ok for check in checks}
        overflows = fine.get(judge.WEIGHTS) is True and fine.get(judge.FINITE) is False
        if self._dtype is not torch.float16 or not overflows:
            return False
        self._dtype = torch.float32
        if is_checkpoint:
            self._kept.overflowing.add(fingerprints(self._job.checkpoint.path))
        self._progress.message("values overflow in fp16, going on in fp32")
        return True

    def _checkpoint(self) -> _Judged:
        try:
            warm = self._warm(self._job.subject)
        except Incomplete as error:
            return (judge.loads_completely(error.missing, error.unexpected),), None
        loads = judge.loads_completely((), (), note=account_of(warm, self._job.companions))
        weights = judge.weights_finite(warm.broken)
        with self._with_adapters(warm):
            return self._judged(
                (loads, weights),
                warm,
                lambda: self._painter.reference(warm, "sample"),
                lambda picture: self._probed(warm, picture),
            )

    def _with_adapters(self, warm: Warm) -> AbstractContextManager[None]:
        """The adapters of the job in effect, if it has some."""
        job = self._job
        if not job.adapters:
            return nullcontext()
        return at_runtime(warm.bundle, job.adapters, job.rounded)

    def _adapter(self) -> _Judged:
        subject = open_adapter(Path(self._job.subject.path))
        warm, reference = self._base()
        with _naming(self._job.subject.path):
            weights = judge.weights_finite(tuple(non_finite(subject)))
        try:
            with ExitStack() as stack:
                self._progress.stage("apply", None, "tensors")
                with self._loading(), _naming(self._job.subject.path):
                    change = stack.enter_context(applied(warm.bundle, subject, self._job))
                loads = judge.loads_completely((), change.unused, note=change.note)
                strength = () if change.largest is None else (judge.strength(*change.largest),)
                return self._judged(
                    (loads, weights, *strength),
                    warm,
                    lambda: self._painter.changed(warm, change, "sample"),
                    lambda picture: self._effects(warm, change, picture, reference),
                    reference,
                )
        except Incomplete as error:
            return (judge.loads_completely(error.missing, error.unexpected),), None
        except NotFinite as error:
            return (weights, judge.finite(error)), None

    def _judged(
        self,
        first: tuple[Check, ...],
        warm: Warm,
        draw: Callable[[], Picture],
        look: Callable[[Picture], Iterable[Check]],
        base: Picture | None = None,
    ) -> _Judged:
        """The picture that `draw` makes, and what it and `look` show of the weights.

        `base` is the picture without the asset, where there is one.
        """
        picture = None
        checks = list(first)
        try:
            picture = draw()
            checks.append(judge.finite(None, picture.note))
            checks += judge.beside_base(picture, base, warm.bundle.latent_factor)
            checks += look(picture)
        except NotFinite as error:
            checks = [check for check in checks if check.name != judge.FINITE]
            checks.insert(len(first), judge.finite(error))
        return tuple(checks), picture

    def _probed(self, warm: Warm, picture: Picture) -> Iterable[Check]:
        if not self._job.with_effect:
            return ()
        return Examiner(self._painter, warm).of_checkpoint(picture, self._job.relatives)

    def _effects(
        self, warm: Warm, change: Applied, picture: Picture, reference: Picture | None
    ) -> Iterable[Check]:
        if reference is None:
            return ()
        return Examiner(self._painter, warm).of_change(change, picture, reference)

    def _base(self) -> tuple[Warm, Picture | None]:
        """The base, and its picture if it is wanted. Raises AssetmgrError when it cannot serve."""
        base = self._job.checkpoint
        try:
            warm = self._warm(base)
        except Incomplete as error:
            raise AssetmgrError(f"cannot serve as base: {error}", path=base.path) from error
        if not self._job.with_effect:
            return warm, None
        try:
            return warm, self._painter.reference(warm, "sample the reference")
        except NotFinite as error:
            found = (judge.weights_finite(warm.broken), judge.finite(error))
            if self._widen(found, is_checkpoint=True):
                return self._base()
            raise AssetmgrError(f"cannot serve as base: {error}", path=base.path) from error

    @property
    def _painter(self) -> Painter:
        return Painter(self._kept.tokens_of, self._conditions, self._thrift, self._progress)

    @property
    def _home(self) -> torch.device:
        """Where networks are while it is not their turn."""
        return torch.device("cpu") if Measure.OFFLOAD in self._thrift.taken else self._device

    def _warm(self, checkpoint: ModelFile) -> Warm:
        """The checkpoint's networks: those of the last job if it is the same file, else loaded."""
        companions = self._job.companions
        place = place_of(checkpoint, companions, self._home, self._dtype)
        warm = self._kept.warm
        if warm is None or warm.place != place:
            self._kept.forget()
            with self._loading(), _naming(checkpoint.path):
                warm = load_warm(place, companions, self._progress)
            self._kept.warm = warm
        self._choose_solver(warm.bundle)
        return warm

    def _choose_solver(self, bundle: Bundle) -> None:
        """Take the solver that stands in where the one asked for cannot sample the model."""
        sampling = self._conditions.sampling
        if bundle.family.flow:
            return
        solver = usable_solver(training_of(bundle), sampling.solver)
        self._conditions = replace(self._conditions, sampling=replace(sampling, solver=solver))
        self._job = replace(self._job, sampler=solver.name)

    @contextmanager
    def _loading(self) -> Iterator[None]:
        """What happens inside counts as loading."""
        started = time.perf_counter()
        yield
        self._load_seconds += time.perf_counter() - started


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Errors that know no file are about this one."""
    try:
        yield
    except AssetmgrError as error:
        error.path = error.path or path
        raise
