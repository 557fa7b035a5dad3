"""Renders of SD3 and Flux: several text encoders, and steps along a straight line from the noise.

Rectified flow (arXiv 2403.03206): x = (1−σ)·x₀ + σ·n, the network gives n − x₀, a step of Euler is
x + (σ′−σ)·output. The levels are shifted towards noise: σ′ = s·σ / (1 + (s−1)·σ) with s = 3 for
SD3, 1 for Flux schnell, and for Flux dev exp(μ) with μ linear in the patches of the picture (0.5
with 256, 1.15 with 4096). Levels before the shift and the order of the encodings: huggingface/
diffusers, pipelines `stable_diffusion_3` and `flux`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch.nn import functional

from assetmgr.sampler.adapters.embeddings import NamedVectors
from assetmgr.sampler.models.bundle import Bundle
from assetmgr.sampler.prompts.prompt import Chunk, Tokenize, encode_pair, summary, tokenize
from assetmgr.sampler.prompts.prose import prose
from assetmgr.sampler.prompts.t5_tokenizer import T5Tokenizer
from assetmgr.sampler.rendering.memory import awake
from assetmgr.sampler.rendering.render import WATCHED, Sampling, guided
from assetmgr.sampler.verdicts.finiteness import checked
from converters.bases import Base
from converters.errors import BadValue
from converters.progress import SILENT, Progress

PATCH = 2
"""Latents of a patch, along an axis."""

SHIFT_OF_SD3 = 3.0
T5_TOKENS = 256
"""Tokens of T5 that SD3 and Flux schnell take; Flux dev takes twice as many."""

FlowNetwork = Callable[[torch.Tensor, float], torch.Tensor]
"""What the network gives for latents `(1, C, h, w)` at a level of noise."""


@dataclass(frozen=True, slots=True)
class Texts:
    """The prompts, and what turns them into tokens; `of_t5` is None where there is no T5."""

    positive: str
    negative: str
    of_clip: Tokenize
    of_t5: T5Tokenizer | None
    embeddings: tuple[NamedVectors, ...] = ()

    def chunks(self, text: str) -> tuple[Chunk, ...]:
        """One of the prompts as CLIP takes it."""
        return tokenize(text, self.of_clip, self.embeddings)


@torch.inference_mode()
def flow_latents(
    bundle: Bundle,
    texts: Texts,
    sampling: Sampling,
    device: torch.device,
    progress: Progress,
    *,
    split: bool = False,
) -> torch.Tensor:
    """Latents `(1, C, H/8, W/8)`, float32 on the CPU, computed on a device.

    Networks that are elsewhere come to the device for their turn; with `split` the negative prompt
    and the prompt are computed one after the other, which takes less memory. Values are looked at
    as in `render.sample`. Raises NotFinite, and BadValue for a size that the model cannot paint.
    """
    _require_size(bundle, sampling)
    factor, channels = bundle.latent_factor, int(bundle.vae.network.config.latent_channels)
    shape = (1, channels, sampling.height // factor, sampling.width // factor)
    generator = torch.Generator("cpu").manual_seed(sampling.seed)
    noise = torch.randn(shape, generator=generator).to(device)
    is_flux = bundle.identity.base is Base.FLUX
    network = flow_network(bundle, texts, sampling, device, split=split)
    levels = flux_levels(sampling, bundle) if is_flux else sd3_levels(sampling.steps)
    walk = partial(_walked, bundle.unet.network, network, noise, levels)
    watched = device.type in WATCHED
    with awake(device, bundle.unet.network):
        latents = walk(progress, watched=watched)
        if not torch.isfinite(latents).all():
            latents = walk(SILENT, watched=True)
    return latents


def _walked(
    transformer: Any,
    network: FlowNetwork,
    latents: torch.Tensor,
    levels: Sequence[float],
    progress: Progress,
    *,
    watched: bool,
) -> torch.Tensor:
    """The latents at the last level; the output of each step is looked at if `watched`."""
    for number, (level, following) in enumerate(pairwise(levels), start=1):
        stage = f"the transformer at step {number} of {len(levels) - 1}"
        call = partial(network, latents, level)
        output = checked(transformer, call, stage) if watched else call()
        latents = latents + (following - level) * output
        progress.advance()
    finished: torch.Tensor = latents.float().cpu()
    return finished


def flow_network(
    bundle: Bundle, texts: Texts, sampling: Sampling, device: torch.device, *, split: bool = False
) -> FlowNetwork:
    """The transformer, told of the prompts; to be called while it is on the device."""
    with awake(device, *_encoders(bundle)):
        if bundle.identity.base is Base.FLUX:
            return _flux(bundle, texts, sampling, device)
        return _sd3(bundle, texts, sampling, device, split=split)


def _encoders(bundle: Bundle) -> list[torch.nn.Module]:
    networks = [network for network, _ in bundle.encoders]
    return networks if bundle.prose is None else [*networks, bundle.prose.network]


def sd3_levels(steps: int) -> list[float]:
    """The levels of noise of SD3, with the last one, 0: even steps between shifted ends."""
    lowest = shifted(0.001, SHIFT_OF_SD3)
    even = torch.linspace(1, lowest, steps, dtype=torch.float64).tolist()
    return [*(shifted(level, SHIFT_OF_SD3) for level in even), 0.0]


def flux_levels(sampling: Sampling, bundle: Bundle) -> list[float]:
    """The levels of noise of Flux, with the last one, 0."""
    even = torch.linspace(1, 1 / sampling.steps, sampling.steps, dtype=torch.float64).tolist()
    shift = 1.0
    if bundle.unet.network.config.guidance_embeds:
        edge = PATCH * bundle.latent_factor
        patches = (sampling.height // edge) * (sampling.width // edge)
        shift = math.exp(0.5 + (1.15 - 0.5) * (patches - 256) / (4096 - 256))
    return [*(shifted(level, shift) for level in even), 0.0]


def shifted(level: float, shift: float) -> float:
    """A level of noise, moved towards more noise by a shift above 1."""
    return shift * level / (1 + (shift - 1) * level)


def _require_size(bundle: Bundle, sampling: Sampling) -> None:
    edge = PATCH * bundle.latent_factor
    most = bundle.unet.network.config.get("pos_embed_max_size")
    for pixels in (sampling.width, sampling.height):
        if pixels % edge:
            raise BadValue(f"sizes of this family are multiples of {edge}, not {pixels}")
        if most is not None and pixels > most * edge:
            raise BadValue(f"this model paints at most {most * edge} pixels a side, not {pixels}")


def _sd3(
    bundle: Bundle, texts: Texts, sampling: Sampling, device: torch.device, *, split: bool
) -> FlowNetwork:
    transformer = bundle.unet.network
    pair = encode_pair(
        bundle.encoders,
        texts.chunks(texts.positive),
        texts.chunks(texts.negative),
    )
    told = list(zip(reversed(pair), (texts.negative, texts.positive), strict=True))
    told = told if sampling.cfg != 1.0 else told[1:]
    width = transformer.config.joint_attention_dim
    hidden = torch.cat(
        [
            torch.cat(
                [_widened(clip.hidden, width), _prose(bundle, texts, text, T5_TOKENS, device)],
                dim=1,
            )
            for clip, text in told
        ]
    ).to(transformer.dtype)
    pooled = torch.cat([clip.pooled for clip, _ in told if clip.pooled is not None])
    pooled = pooled.to(transformer.dtype)
    batch = 1 if split else len(told)

    def network(latents: torch.Tensor, level: float) -> torch.Tensor:
        output = torch.cat(
            [
                transformer(
                    hidden_states=latents.to(transformer.dtype).repeat(len(some), 1, 1, 1),
                    timestep=torch.full((len(some),), 1000 * level, device=latents.device),
                    encoder_hidden_states=some,
                    pooled_projections=beside,
                    return_dict=False,
                )[0].float()
                for some, beside in zip(
                    torch.split(hidden, batch), torch.split(pooled, batch), strict=True
                )
            ]
        )
        return guided(output, sampling.cfg) if len(told) == 2 else output

    return network


def _widened(hidden: torch.Tensor, width: int) -> torch.Tensor:
    return functional.pad(hidden, (0, width - hidden.shape[-1]))


def _prose(
    bundle: Bundle, texts: Texts, text: str, count: int, device: torch.device
) -> torch.Tensor:
    """T5's encoding `(1, count, d)`; zeros without it."""
    transformer = bundle.unet.network
    if bundle.prose is None or texts.of_t5 is None:
        shape = (1, count, transformer.config.joint_attention_dim)
        return torch.zeros(shape, device=device, dtype=transformer.dtype)
    encoded = prose(bundle.prose.network, text, texts.of_t5, count, texts.embeddings)
    return encoded.to(transformer.dtype)


def _flux(bundle: Bundle, texts: Texts, sampling: Sampling, device: torch.device) -> FlowNetwork:
    """The prompt alone: this family is guided by a number it is told, or not at all."""
    transformer, (encoder, _) = bundle.unet.network, bundle.encoders[0]
    dtype = transformer.dtype
    told = bool(transformer.config.guidance_embeds)
    hidden = _prose(bundle, texts, texts.positive, T5_TOKENS * (2 if told else 1), device)
    pooled = summary(encoder, texts.chunks(texts.positive)[0]).to(dtype)
    guidance = torch.full((1,), sampling.cfg, device=device) if told else None
    edge = PATCH * bundle.latent_factor
    rows, columns = sampling.height // edge, sampling.width // edge
    places = _places(rows, columns).to(device, dtype)
    no_places = torch.zeros(hidden.shape[1], 3, device=device, dtype=dtype)

    def network(latents: torch.Tensor, level: float) -> torch.Tensor:
        output: torch.Tensor = transformer(
            hidden_states=_packed(latents).to(dtype),
            timestep=torch.full((1,), level, device=device, dtype=dtype),
            guidance=guidance,
            pooled_projections=pooled,
            encoder_hidden_states=hidden,
            txt_ids=no_places,
            img_ids=places,
            return_dict=False,
        )[0]
        return _unpacked(output.float(), rows, columns)

    return network


def _places(rows: int, columns: int) -> torch.Tensor:
    """Row and column of each patch `(rows·columns, 3)`, behind a zero."""
    places = torch.zeros(rows, columns, 3)
    places[..., 1] += torch.arange(rows)[:, None]
    places[..., 2] += torch.arange(columns)[None]
    return places.reshape(-1, 3)


def _packed(latents: torch.Tensor) -> torch.Tensor:
    """Latents `(1, C, h, w)` as patches `(1, h·w/4, 4C)`."""
    return functional.pixel_unshuffle(latents, PATCH).flatten(2).transpose(1, 2)


def _unpacked(patches: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    grid = patches.transpose(1, 2).reshape(1, -1, rows, columns)
    return functional.pixel_shuffle(grid, PATCH)
