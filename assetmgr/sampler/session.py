"""Renders jobs one after the other, keeping what the next job may need again.

Kept are the networks of the last base checkpoint and its renders without any adapter, which are the
references that effects are measured against. A subject changes the networks only while it is being
rendered, so that every job sees the base as it is in its file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from assetmgr.sampler import judge
from assetmgr.sampler.bundle import Bundle
from assetmgr.sampler.denoising import training_of
from assetmgr.sampler.devices import (
    choose_device,
    choose_precision,
    peak_memory,
    precision_name,
    start_measuring,
)
from assetmgr.sampler.finiteness import NotFinite
from assetmgr.sampler.jobs import Check, ModelFile, RenderJob, RenderOutcome
from assetmgr.sampler.memory import (
    Measure,
    Thrift,
    is_exhausted,
    release_cache,
)
from assetmgr.sampler.networks import Incomplete
from assetmgr.sampler.painter import Painter
from assetmgr.sampler.pictures import write_picture
from assetmgr.sampler.probes import DRAWS, Answers, difference, noise_left, round_trip
from assetmgr.sampler.prompt import Tokenize
from assetmgr.sampler.render import Picture, Sampling, encode_picture
from assetmgr.sampler.runtime import at_runtime
from assetmgr.sampler.schedules import usable_solver
from assetmgr.sampler.solvers import solver_named
from assetmgr.sampler.subjects import Applied, Scaled, applied
from assetmgr.sampler.tokenizer import load_tokenizer
from assetmgr.sampler.warm import Conditions, Warm, account_of, load_warm, place_of
from converters.adapters.opening import open_adapter
from converters.errors import AssetmgrError, OutOfMemory
from converters.finite import non_finite
from converters.progress import Progress


class Session:
    """The state of a sampler process."""

    def __init__(self) -> None:
        tokenizer = load_tokenizer()
        self.tokens_of: Tokenize = partial(tokenizer.encode, add_special_tokens=False)
        self.warm: Warm | None = None
        self.learned: dict[tuple[object, ...], frozenset[Measure]] = {}

    def render(self, job: RenderJob, progress: Progress) -> RenderOutcome:
        """Render a job, judge the picture, write its files.

        A subject that loads or renders badly is an outcome with failed checks. Raises the errors of
        files that cannot be read or used, NotAvailable for a missing device, and OutOfMemory when
        the memory does not suffice, whatever is done to save it.
        """
        return self.drawn(job, progress)[0]

    def drawn(self, job: RenderJob, progress: Progress) -> tuple[RenderOutcome, Picture | None]:
        """As `render`, and the picture; None where nothing could be drawn."""
        device = choose_device(job.device)
        start_measuring(device)
        thrift = Thrift.begin(device, job.low_vram, self.learned.get(_strain(job), frozenset()))
        while True:
            try:
                return _Run(self, job, thrift, progress).outcome()
            except (MemoryError, RuntimeError) as error:
                if not is_exhausted(error):
                    raise
                measure = thrift.tighten(progress)
                if measure is None:
                    self.forget()
                    raise _exhausted(job, device) from error
            finally:
                self.learned[_strain(job)] = frozenset(thrift.forced)
            if measure is Measure.OFFLOAD:
                self.forget()
            elif self.warm is not None:
                self.warm.bundle.spares.clear()
            release_cache()

    def forget(self) -> None:
        """Release the networks."""
        self.warm = None
        release_cache()


def _exhausted(job: RenderJob, device: torch.device) -> OutOfMemory:
    return OutOfMemory(
        f"not enough memory to render {job.width}x{job.height} on {device.type}",
        path=job.subject.path,
        hint="a smaller --size needs less",
    )


def _strain(job: RenderJob) -> tuple[object, ...]:
    """What the memory that a job needs depends on: where one failed, the next will."""
    return (job.checkpoint.path, job.device, job.dtype, job.width, job.height)


_Judged = tuple[tuple[Check, ...], Picture | None]


class _Run:
    """One job on its way through a session."""

    def __init__(
        self, session: Session, job: RenderJob, thrift: Thrift, progress: Progress
    ) -> None:
        self._session = session
        self._job = job
        self._thrift = thrift
        self._device = thrift.device
        self._dtype = choose_precision(job.dtype, thrift.device)
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
        if picture is None and self._widen(checks):
            checks, picture = self._tried()
        job = self._job
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
        )
        return outcome, picture

    def _tried(self) -> _Judged:
        return self._checkpoint() if self._job.base is None else self._adapter()

    def _widen(self, checks: Sequence[Check]) -> bool:
        """Go on in fp32 when fp16 is too narrow for values on the way, though all weights fit.

        SD2's attention is known for that. Whether there is something to try.
        """
        fine = {check.name: check.ok for check in checks}
        overflows = fine.get(judge.WEIGHTS) is True and fine.get(judge.FINITE) is False
        if self._dtype is not torch.float16 or not overflows:
            return False
        self._dtype = torch.float32
        self._progress.message("values overflow in fp16, going on in fp32")
        return True

    def _checkpoint(self) -> _Judged:
        try:
            warm = self._warm(self._job.subject)
        except Incomplete as error:
            return (judge.loads_completely(error.missing, error.unexpected),), None
        loads = judge.loads_completely((), (), note=account_of(warm, self._job.companions))
        with self._with_adapters(warm):
            return self._judged(
                (loads, judge.weights_finite(warm.bundle.broken)),
                warm,
                lambda: self._reference(warm, "sample"),
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
                return self._judged(
                    (loads, weights),
                    warm,
                    lambda: self._changed(warm, change, "sample"),
                    lambda picture: self._effects(warm, change, picture, reference),
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
        look: Callable[[Picture], Iterator[Check]],
    ) -> _Judged:
        """The picture that `draw` makes, and what it and `look` show of the weights."""
        picture = None
        checks = list(first)
        try:
            picture = draw()
            checks.append(judge.finite(None, picture.note))
            checks += judge.of_picture(picture, warm.bundle.latent_factor)
            checks += look(picture)
        except NotFinite as error:
            checks = [check for check in checks if check.name != judge.FINITE]
            checks.insert(len(first), judge.finite(error))
        return tuple(checks), picture

    def _probed(self, warm: Warm, picture: Picture) -> Iterator[Check]:
        """What a checkpoint's networks answer when they are asked one by one."""
        if not self._job.with_effect:
            return
        if not warm.bundle.family.flow:
            yield self._noise_left(warm, picture)
            if self._conditions.prompt != self._conditions.negative:
                positive, negative = self._painter.conditionings(warm, ())
                yield judge.prompt_matters(difference(positive, negative))
        yield self._round_trip(warm.bundle.vae.network)

    def _effects(
        self, warm: Warm, change: Applied, picture: Picture, reference: Picture | None
    ) -> Iterator[Check]:
        """What an asset changed, against the render without it."""
        if reference is None:
            return
        effect = judge.effect(picture, reference)
        if change.decoder is not None or change.encoder is not None:
            yield judge.same_picture(picture, reference)
            if getattr(change.decoder, "encoder", None) is not None:
                yield self._round_trip(change.decoder)
        if change.scaled is not None:
            yield from self._weighed(warm, change.scaled, picture, effect)
        else:
            yield effect

    def _noise_left(self, warm: Warm, picture: Picture) -> Check:
        return judge.removes_noise(noise_left(self._answers(warm, picture), picture.latents))

    def _answers(self, warm: Warm, picture: Picture, draws: int = DRAWS) -> Answers:
        return self._painter.answers(warm, picture.latents, draws)

    def _weighed(
        self, warm: Warm, scaled: Scaled, picture: Picture, effect: Check
    ) -> Iterator[Check]:
        """What the denoiser answers with all, half and nothing of an asset that has a weight."""
        whole = self._answers(warm, picture)
        if not warm.bundle.family.flow:
            yield judge.removes_noise(noise_left(whole, picture.latents))
        yield effect
        if effect.ok:
            with scaled(0.5):
                half = self._answers(warm, picture, 1)
            with scaled(0.0):
                without = self._answers(warm, picture, 1)
            yield judge.half_effect(half.apart(without), whole.apart(without))

    def _round_trip(self, vae: Any) -> Check:
        sampling = self._conditions.sampling
        with self._painter.ready(vae):
            return judge.round_trip(round_trip(vae, sampling.width, sampling.height))

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
            return warm, self._reference(warm, "sample the reference")
        except NotFinite as error:
            if self._widen((judge.weights_finite(warm.bundle.broken), judge.finite(error))):
                return self._base()
            raise AssetmgrError(f"cannot serve as base: {error}", path=base.path) from error

    @property
    def _painter(self) -> Painter:
        return Painter(self._session.tokens_of, self._conditions, self._thrift, self._progress)

    @property
    def _home(self) -> torch.device:
        """Where networks are while it is not their turn."""
        return torch.device("cpu") if Measure.OFFLOAD in self._thrift.taken else self._device

    def _warm(self, checkpoint: ModelFile) -> Warm:
        """The checkpoint's networks: those of the last job if it is the same file, else loaded."""
        companions = self._job.companions
        place = place_of(checkpoint, companions, self._home, self._dtype)
        warm = self._session.warm
        if warm is None or warm.place != place:
            self._session.forget()
            with self._loading(), _naming(checkpoint.path):
                warm = load_warm(place, companions, self._progress)
            self._session.warm = warm
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

    def _reference(self, warm: Warm, label: str) -> Picture:
        """The picture of the checkpoint alone, rendered once for the same conditions."""
        picture = warm.references.get(self._conditions)
        if picture is None:
            painter = self._painter
            latents = painter.latents(warm, (), label)
            picture = painter.decoded(warm.bundle.vae.network, latents)
            warm.keep(self._conditions, picture)
        return picture

    def _changed(self, warm: Warm, change: Applied, label: str) -> Picture:
        """The picture with the subject in effect."""
        if change.decoder is not None:
            reference = self._reference(warm, label)
            return self._painter.decoded(change.decoder, reference.latents)
        if change.encoder is not None:
            latents = encode_picture(change.encoder, self._reference(warm, label).pixels)
            return self._painter.decoded(warm.bundle.vae.network, latents)
        latents = self._painter.latents(warm, change.embeddings, label)
        return self._painter.decoded(warm.bundle.vae.network, latents)

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
