"""Renders jobs one after the other, keeping what the next job may need again.

Kept are the networks of the last base checkpoint and its renders without any adapter, which are the
references that effects are measured against. A subject changes the networks only while it is being
rendered, so that every job sees the base as it is in its file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from assetmgr.sampler import judge
from assetmgr.sampler.bundle import Bundle, Incomplete, latent_factor, load_bundle, outside
from assetmgr.sampler.denoising import denoiser_of, training_of
from assetmgr.sampler.devices import (
    choose_device,
    choose_precision,
    peak_memory,
    precision_name,
    start_measuring,
)
from assetmgr.sampler.embeddings import NamedVectors
from assetmgr.sampler.families import family_of
from assetmgr.sampler.finiteness import NotFinite
from assetmgr.sampler.flow import Texts, flow_latents
from assetmgr.sampler.flow_bundle import joined, load_flow, without_t5
from assetmgr.sampler.jobs import Check, ModelFile, RenderJob, RenderOutcome, RuntimeAdapter
from assetmgr.sampler.memory import (
    Measure,
    Thrift,
    awake,
    frugal,
    is_exhausted,
    release_cache,
    tiled,
)
from assetmgr.sampler.pictures import write_picture
from assetmgr.sampler.probes import difference, noise_left, round_trip
from assetmgr.sampler.prompt import Conditioning, Tokenize, encode_pair, tokenize
from assetmgr.sampler.render import Denoiser, Picture, Sampling, decode, encode_picture, sample
from assetmgr.sampler.runtime import at_runtime
from assetmgr.sampler.schedules import usable_solver
from assetmgr.sampler.solvers import solver_named
from assetmgr.sampler.subjects import Applied, applied
from assetmgr.sampler.t5_tokenizer import T5Tokenizer, load_t5_tokenizer
from assetmgr.sampler.tokenizer import load_tokenizer
from converters.adapters.opening import open_adapter
from converters.bytesource import Fingerprint
from converters.containers import Container, Model, open_model
from converters.errors import AssetmgrError, FileMissing, OutOfMemory
from converters.finite import non_finite
from converters.identify import identify
from converters.layouts.flow_parts import NEEDED, T5, T5_TOKENIZER
from converters.layouts.pipeline import pipeline_parts, to_single_file
from converters.progress import Progress
from converters.statedict import StateDict

KEPT_REFERENCES = 32
"""Renders of the base that are kept: 3 MB each at 512x512."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a loaded bundle answers to: the file as it was, and where it was loaded to."""

    path: str
    fingerprint: Fingerprint
    device: torch.device
    dtype: torch.dtype
    companions: tuple[tuple[str, Fingerprint], ...] = ()


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a picture depends on beside the networks."""

    prompt: str
    negative: str
    sampling: Sampling
    clip_skip: int = 1
    adapters: tuple[RuntimeAdapter, ...] = ()
    rounded: str | None = None


@dataclass(slots=True)
class Warm:
    """A loaded base and its pictures without any adapter."""

    place: Place
    bundle: Bundle
    of_t5: T5Tokenizer | None = None
    references: dict[Conditions, Picture] = field(default_factory=dict)

    def keep(self, conditions: Conditions, picture: Picture) -> None:
        """Remember a picture, and forget the oldest when there are many."""
        if len(self.references) >= KEPT_REFERENCES:
            del self.references[next(iter(self.references))]
        self.references[conditions] = picture


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
        loads = judge.loads_completely((), (), note=_account(warm, self._job.companions))
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
            positive, negative = self._conditionings(warm, ())
            yield self._noise_left(warm, positive, picture)
            if self._conditions.prompt != self._conditions.negative:
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
        elif change.halved is not None and not warm.bundle.family.flow:
            positive, _ = self._conditionings(warm, change.embeddings)
            yield self._noise_left(warm, positive, picture)
        yield effect
        if change.halved is not None and effect.ok:
            with change.halved():
                half = self._changed(warm, change, "sample at half the weight")
            yield judge.half_effect(half, picture, reference)

    def _noise_left(self, warm: Warm, prompt: Conditioning, picture: Picture) -> Check:
        sampling = self._conditions.sampling
        with self._denoiser(warm) as denoiser:
            left = noise_left(denoiser, prompt, picture.latents, sampling.cfg, sampling.seed)
        return judge.removes_noise(left)

    def _round_trip(self, vae: Any) -> Check:
        sampling = self._conditions.sampling
        with self._ready(vae):
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
    def _home(self) -> torch.device:
        """Where networks are while it is not their turn."""
        return torch.device("cpu") if Measure.OFFLOAD in self._thrift.taken else self._device

    def _warm(self, checkpoint: ModelFile) -> Warm:
        """The checkpoint's networks: those of the last job if it is the same file, else loaded."""
        companions = tuple((each.path, _fingerprint(each.path)) for each in self._job.companions)
        mark = _fingerprint(checkpoint.path)
        place = Place(checkpoint.path, mark, self._home, self._dtype, companions)
        warm = self._session.warm
        if warm is None or warm.place != place:
            self._session.forget()
            with self._loading(), _naming(checkpoint.path):
                warm = self._loaded(place)
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

    def _loaded(self, place: Place) -> Warm:
        model = open_model(place.path)
        identity = identify(model.state_dict)
        if not family_of(identity).flow:
            sd = _single(model)
            return Warm(place, load_bundle(sd, place.device, self._dtype, self._progress))
        files = {each.kind: each.path for each in self._job.companions}
        of_t5 = load_t5_tokenizer(files.pop(T5_TOKENIZER)) if T5_TOKENIZER in files else None
        companions = {role: open_model(path).state_dict for role, path in files.items()}
        sd = joined(model.state_dict, identity.base, companions)
        if of_t5 is None and T5 in NEEDED[identity.base]:
            raise Incomplete((f"the whole {T5_TOKENIZER}",))
        told = without_t5(sd) if of_t5 is None else sd
        bundle = load_flow(told, identity, place.device, self._dtype, self._progress)
        return Warm(place, bundle, of_t5)

    def _reference(self, warm: Warm, label: str) -> Picture:
        """The picture of the checkpoint alone, rendered once for the same conditions."""
        picture = warm.references.get(self._conditions)
        if picture is None:
            bundle = warm.bundle
            picture = self._decoded(bundle.vae.network, self._latents(warm, (), label))
            warm.keep(self._conditions, picture)
        return picture

    def _changed(self, warm: Warm, change: Applied, label: str) -> Picture:
        """The picture with the subject in effect."""
        if change.decoder is not None:
            reference = self._reference(warm, label)
            return self._decoded(change.decoder, reference.latents)
        if change.encoder is not None:
            latents = encode_picture(change.encoder, self._reference(warm, label).pixels)
            return self._decoded(warm.bundle.vae.network, latents)
        latents = self._latents(warm, change.embeddings, label)
        return self._decoded(warm.bundle.vae.network, latents)

    def _latents(
        self, warm: Warm, embeddings: tuple[NamedVectors, ...], label: str
    ) -> torch.Tensor:
        conditions, bundle, device = self._conditions, warm.bundle, self._device
        if bundle.family.flow:
            tokens_of = self._session.tokens_of
            texts = Texts(conditions.prompt, conditions.negative, tokens_of, warm.of_t5)
            self._progress.stage(label, conditions.sampling.steps, "steps")
            return flow_latents(bundle, texts, conditions.sampling, device, self._progress)
        encoded = self._conditionings(warm, embeddings)
        self._progress.stage(label, conditions.sampling.steps, "steps")
        with self._denoiser(warm) as denoiser:
            return sample(denoiser, *encoded, conditions.sampling, self._progress)

    @contextmanager
    def _denoiser(self, warm: Warm) -> Iterator[Denoiser]:
        """The denoiser of the base on the device, as frugal as memory wants it."""
        bundle, device = warm.bundle, self._device
        with awake(device, bundle.vae.network):
            denoiser = denoiser_of(bundle, self._conditions.sampling)
        with frugal(bundle.unet.network, self._thrift.taken, device) as unet:
            yield replace(denoiser, network=unet)

    def _conditionings(
        self, warm: Warm, embeddings: tuple[NamedVectors, ...]
    ) -> tuple[Conditioning, Conditioning]:
        """Those of prompt and negative prompt."""
        conditions, encoders = self._conditions, warm.bundle.encoders
        positive, negative = (
            tokenize(text, self._session.tokens_of, embeddings)
            for text in (conditions.prompt, conditions.negative)
        )
        with awake(self._device, *(network for network, _ in encoders)):
            return encode_pair(encoders, positive, negative, conditions.clip_skip)

    def _decoded(self, vae: Any, latents: torch.Tensor) -> Picture:
        """The picture of latents; where memory does not suffice, decoded once more in tiles."""
        self._progress.stage("decode", None, "pictures")
        try:
            return self._pixels(vae, latents)
        except (MemoryError, RuntimeError) as error:
            if not is_exhausted(error) or Measure.TILES in self._thrift.taken:
                raise
        self._thrift.tighten(self._progress)
        release_cache()
        return self._pixels(vae, latents)

    def _pixels(self, vae: Any, latents: torch.Tensor) -> Picture:
        with self._ready(vae):
            picture = decode(vae, latents)
        if picture.note:
            self._progress.message(picture.note)
        return picture

    @contextmanager
    def _ready(self, vae: Any) -> Iterator[None]:
        """An autoencoder on the device, in tiles where memory wants it."""
        with ExitStack() as stack:
            stack.enter_context(awake(self._device, vae))
            if Measure.TILES in self._thrift.taken:
                sampling = self._conditions.sampling
                edges = (sampling.width, sampling.height, latent_factor(vae))
                stack.enter_context(tiled(vae, *edges))
            yield

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


def _single(model: Model) -> StateDict:
    """A checkpoint's state dict under the names of a single file."""
    if model.container is not Container.DIFFUSERS:
        return model.state_dict
    state = model.state_dict
    return to_single_file(pipeline_parts(state), state.metadata).state


def _account(warm: Warm, companions: Sequence[ModelFile]) -> str:
    """What a completely loaded checkpoint consists of, in words."""
    sd, bundle = warm.bundle.state_dict, warm.bundle
    if bundle.family.flow:
        lent = ", ".join(f"{each.kind} of {Path(each.path).name}" for each in companions)
        note = f"all {len(sd)} tensors of transformer, VAE and text encoders"
        note += f" ({lent})" if lent else ""
        without = bundle.prose is None or warm.of_t5 is None
        return f"{note}; without T5 or its tokenizer, zeros in its place" if without else note
    extra = outside(sd)
    note = f"all {len(sd) - len(extra)} tensors of UNet, VAE and text encoder"
    return f"{note}; {len(extra)} others play no part in a render" if extra else note


def _fingerprint(path: str) -> Fingerprint:
    try:
        return Fingerprint.of(os.stat(path))
    except OSError as error:
        raise FileMissing("no such file", path=path) from error
