"""Pictures made of warm networks, each on the device for its turn, as memory wants it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from assetmgr.sampler.adapters.embeddings import NamedVectors
from assetmgr.sampler.adapters.subjects import Applied
from assetmgr.sampler.models.denoising import denoiser_of
from assetmgr.sampler.models.networks import latent_factor
from assetmgr.sampler.process.warm import Conditions, Warm
from assetmgr.sampler.prompts.prompt import Conditioning, Tokenize, encode_pair, tokenize
from assetmgr.sampler.rendering.flow import Texts, flow_latents, flow_network
from assetmgr.sampler.rendering.memory import (
    NOT_REPLAYED,
    Measure,
    Thrift,
    awake,
    frugal,
    is_exhausted,
    release_cache,
    tiled,
)
from assetmgr.sampler.rendering.render import Denoiser, Picture, decode, encode_picture, sample
from assetmgr.sampler.rendering.threads import threads_for
from assetmgr.sampler.verdicts.probes import Answers, answers, answers_on_lines
from converters.progress import Progress


@dataclass(frozen=True, slots=True)
class Painter:
    """Paints under fixed conditions. What it raises is NotFinite, or that memory ran out."""

    tokens_of: Tokenize
    conditions: Conditions
    thrift: Thrift
    progress: Progress

    def latents(self, warm: Warm, embeddings: tuple[NamedVectors, ...], label: str) -> torch.Tensor:
        """The latents `(1, C, H/8, W/8)` that are sampled, float32 on the CPU."""
        conditions, bundle, device = self.conditions, warm.bundle, self.thrift.device
        if bundle.family.flow:
            texts = self._texts(warm, embeddings)
            self.progress.stage(label, conditions.sampling.steps, "steps")
            split = Measure.HALVES in self.thrift.taken
            sampling = conditions.sampling
            return flow_latents(bundle, texts, sampling, device, self.progress, split=split)
        encoded = self.conditionings(warm, embeddings)
        self.progress.stage(label, conditions.sampling.steps, "steps")
        with self.denoiser(warm) as denoiser:
            return sample(denoiser, *encoded, conditions.sampling, self.progress)

    def reference(self, warm: Warm, label: str) -> Picture:
        """The picture of the checkpoint alone, rendered once for the same conditions."""
        picture = warm.references.get(self.conditions)
        if picture is None:
            picture = self.decoded(warm.bundle.vae.network, self.latents(warm, (), label))
            warm.keep(self.conditions, picture)
        return picture

    def changed(self, warm: Warm, change: Applied, label: str) -> Picture:
        """The picture with a subject in effect."""
        if change.decoder is not None:
            return self.decoded(change.decoder, self.reference(warm, label).latents)
        if change.encoder is not None:
            latents = encode_picture(change.encoder, self.reference(warm, label).pixels)
        else:
            latents = self.latents(warm, change.embeddings, label)
        return self.decoded(warm.bundle.vae.network, latents)

    def answers(self, warm: Warm, latents: torch.Tensor, draws: int) -> Answers:
        """What the denoiser makes of these latents with noise, at the prompt."""
        conditions, bundle, device = self.conditions, warm.bundle, self.thrift.device
        cfg, seed = conditions.sampling.cfg, conditions.sampling.seed
        if bundle.family.flow:
            split = Measure.HALVES in self.thrift.taken
            texts = self._texts(warm)
            network = flow_network(bundle, texts, conditions.sampling, device, split=split)
            with awake(device, bundle.unet.network):
                return answers_on_lines(network, latents, draws, seed, device)
        positive, _ = self.conditionings(warm, ())
        with self.denoiser(warm) as denoiser:
            return answers(denoiser, positive, latents, draws, cfg, seed)

    def _texts(self, warm: Warm, embeddings: tuple[NamedVectors, ...] = ()) -> Texts:
        positive, negative = self.conditions.prompt, self.conditions.negative
        return Texts(positive, negative, self.tokens_of, warm.of_t5, embeddings)

    @contextmanager
    def denoiser(self, warm: Warm) -> Iterator[Denoiser]:
        """The denoiser of the base on the device, as frugal as memory wants it."""
        bundle, device, sampling = warm.bundle, self.thrift.device, self.conditions.sampling
        with awake(device, bundle.vae.network):
            denoiser = denoiser_of(bundle, sampling)
        with (
            threads_for(warm.weights, warm.places(sampling)),
            frugal(bundle.unet.network, self.thrift.taken, device) as unet,
        ):
            replay = None if self.thrift.taken & NOT_REPLAYED else warm.replay
            yield replace(denoiser, network=unet, replay=replay)

    def conditionings(
        self, warm: Warm, embeddings: tuple[NamedVectors, ...]
    ) -> tuple[Conditioning, Conditioning]:
        """Those of prompt and negative prompt; the base's own are made once."""
        conditions = self.conditions
        if embeddings or conditions.adapters or not warm.reads_as_stored:
            return self._encoded(warm, embeddings)
        key = (conditions.prompt, conditions.negative, conditions.clip_skip)
        if key not in warm.encodings:
            warm.keep_encoding(key, self._encoded(warm, ()))
        return warm.encodings[key]

    def _encoded(
        self, warm: Warm, embeddings: tuple[NamedVectors, ...]
    ) -> tuple[Conditioning, Conditioning]:
        conditions, encoders = self.conditions, warm.bundle.encoders
        positive, negative = (
            tokenize(text, self.tokens_of, embeddings)
            for text in (conditions.prompt, conditions.negative)
        )
        with awake(self.thrift.device, *(network for network, _ in encoders)):
            return encode_pair(encoders, positive, negative, conditions.clip_skip)

    def decoded(self, vae: Any, latents: torch.Tensor) -> Picture:
        """The picture of latents; where memory does not suffice, decoded once more in tiles."""
        self.progress.stage("decode", None, "pictures")
        try:
            return self._pixels(vae, latents)
        except (MemoryError, RuntimeError) as error:
            if not is_exhausted(error) or Measure.TILES in self.thrift.taken:
                raise
        self.thrift.tighten(self.progress)
        release_cache()
        return self._pixels(vae, latents)

    def _pixels(self, vae: Any, latents: torch.Tensor) -> Picture:
        height, width = latents.shape[-2:]
        weights = sum(parameter.numel() for parameter in vae.parameters())
        with self.ready(vae), threads_for(weights, height * width):
            picture = decode(vae, latents)
        if picture.note:
            self.progress.message(picture.note)
        return picture

    @contextmanager
    def ready(self, vae: Any) -> Iterator[None]:
        """An autoencoder on the device, in tiles where memory wants it."""
        with ExitStack() as stack:
            stack.enter_context(awake(self.thrift.device, vae))
            if Measure.TILES in self.thrift.taken:
                sampling = self.conditions.sampling
                edges = (sampling.width, sampling.height, latent_factor(vae))
                stack.enter_context(tiled(vae, *edges))
            yield
