"""One picture from loaded networks: noise, the sampling loop, the decoder.

The initial noise (and that of ancestral steps) is drawn in float32 on the CPU, so that a seed means
the same on every device. Guidance: `u + g·(c − u)` (arXiv 2207.12598); with g = 1 the negative
prompt is not evaluated. What was guided is brought back to the spread of the prompt's own output
for networks trained down to pure noise, which would burn out otherwise (arXiv 2305.08891).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from assetmgr.sampler.models.schedules import Training, scheduler_of
from assetmgr.sampler.prompts.prompt import Conditioning
from assetmgr.sampler.rendering.replay import Replay
from assetmgr.sampler.rendering.solvers import Solver
from assetmgr.sampler.verdicts.finiteness import checked, require_finite
from converters.progress import SILENT, Progress

RESCALE = 0.7
"""How far guided outputs are brought back to their old spread, for zero terminal SNR."""

WATCHED = frozenset({"cpu"})
"""Types of devices on which it costs nothing to look at values on the way."""

DECODED_AGAIN = "the VAE overflows in fp16 and was computed in fp32"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample: everything but the networks and the prompt. Sizes in pixels."""

    solver: Solver
    steps: int
    cfg: float
    width: int
    height: int
    seed: int


@dataclass(frozen=True, slots=True)
class Picture:
    """A finished render on the CPU: latents `(1, C, h, w)`, pixels `(3, H, W)` in 0..1, float32.

    `note` says what was done otherwise than asked.
    """

    latents: torch.Tensor
    pixels: torch.Tensor
    note: str = ""


@dataclass(frozen=True, slots=True)
class Denoiser:
    """A UNet and what a render with it depends on.

    `factor` is the pixels of a latent along an axis. `beside` `(1, k, h, w)` are channels that the
    network wants joined to the latents. `sizes` `(2, n)`, for the negative prompt and the prompt,
    are the numbers that SDXL is told. `guidance_width` is that of the vector by which distilled
    networks are told the guidance, None for all others. `replay` calls the network where many calls
    are for one prompt.
    """

    network: Any
    factor: int
    channels: int = 4
    training: Training = field(default_factory=Training)
    beside: torch.Tensor | None = None
    sizes: torch.Tensor | None = None
    guidance_width: int | None = None
    replay: Replay | None = None

    def for_prompts(self, told: Mapping[str, Any]) -> AbstractContextManager[None]:
        """All calls inside are told the same."""
        if self.replay is None:
            return nullcontext()
        return self.replay.told(told["encoder_hidden_states"])


@torch.inference_mode()
def sample(
    denoiser: Denoiser,
    positive: Conditioning,
    negative: Conditioning,
    sampling: Sampling,
    progress: Progress,
) -> torch.Tensor:
    """Latents `(1, C, H/factor, W/factor)`, float32 on the CPU. Raises NotFinite.

    What is no number stays so to the end: where a look at the values would have the device wait,
    only the last ones are looked at, and all steps are made again to name the one that failed.
    """
    cfg = sampling.cfg
    is_guided = cfg != 1.0 and denoiser.guidance_width is None
    told = told_of(denoiser, (negative, positive) if is_guided else (positive,), cfg)
    watched = told["encoder_hidden_states"].device.type in WATCHED
    with denoiser.for_prompts(told):
        latents = _denoised(denoiser, told, sampling, progress, watched=watched)
        if not torch.isfinite(latents).all():
            latents = _denoised(denoiser, told, sampling, SILENT, watched=True)
    return latents


def _denoised(
    denoiser: Denoiser,
    told: dict[str, Any],
    sampling: Sampling,
    progress: Progress,
    *,
    watched: bool,
) -> torch.Tensor:
    """The latents after all steps; those of each are looked at if `watched`."""
    hidden, factor = told["encoder_hidden_states"], denoiser.factor
    device, is_guided = hidden.device, len(hidden) > 1
    generator = torch.Generator("cpu").manual_seed(sampling.seed)
    scheduler = scheduler_of(denoiser.training, sampling.solver, sampling.steps)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)  # found by its moment, the first of two with one is left out
    shape = (1, denoiser.channels, sampling.height // factor, sampling.width // factor)
    latents = torch.randn(shape, generator=generator).to(device) * scheduler.init_noise_sigma
    rescale = RESCALE if denoiser.training.zero_snr else 0.0
    moments = scheduler.timesteps.to(device)
    for number, (time, moment) in enumerate(zip(scheduler.timesteps, moments, strict=True), 1):
        scaled = scheduler.scale_model_input(latents, time)
        inputs = torch.cat([scaled, scaled]) if is_guided else scaled
        stage = f"the UNet at step {number} of {sampling.steps}" if watched else None
        output = predicted(denoiser, inputs, moment, told, stage)
        noise = guided(output, sampling.cfg, rescale) if is_guided else output
        latents = _step(scheduler, noise, time, latents, generator)
        if watched:
            require_finite(latents, f"the latents after step {number} of {sampling.steps}")
        progress.advance()
    finished: torch.Tensor = latents.float().cpu()
    return finished


def predicted(
    denoiser: Denoiser,
    scaled: torch.Tensor,
    time: torch.Tensor,
    told: dict[str, Any],
    stage: str | None,
) -> torch.Tensor:
    """The output of the network for latents `(B, C, h, w)`, float32.

    Raises NotFinite naming the stage, unless there is None.
    """
    unet, beside = denoiser.network, denoiser.beside
    if beside is not None:
        scaled = torch.cat([scaled, beside.to(scaled).expand(len(scaled), -1, -1, -1)], dim=1)
    inputs = scaled.to(told["encoder_hidden_states"].dtype)

    run = denoiser.replay or unet

    def call() -> torch.Tensor:
        output: torch.Tensor = run(inputs, time, **told, return_dict=False)[0]
        return output

    return (call() if stage is None else checked(unet, call, stage)).float()


def told_of(
    denoiser: Denoiser, conditionings: Sequence[Conditioning], cfg: float
) -> dict[str, Any]:
    """The arguments of the UNet beside latents and time, for a batch of these conditionings.

    Encodings have the type of the UNet and are on its device, which it takes long to tell.
    """
    hidden = torch.cat([each.hidden for each in conditionings])
    told: dict[str, Any] = {"encoder_hidden_states": hidden}
    if denoiser.sizes is not None:
        pooled = [each.pooled for each in conditionings if each.pooled is not None]
        told["added_cond_kwargs"] = {
            "text_embeds": torch.cat(pooled),
            "time_ids": denoiser.sizes[-len(conditionings) :].to(hidden),
        }
    if denoiser.guidance_width is not None:
        vector = guidance_vector(cfg, denoiser.guidance_width)
        told["timestep_cond"] = vector.to(hidden)
    return told


def repeated(told: Mapping[str, Any], count: int) -> dict[str, Any]:
    """The arguments for one item, for as many items."""
    return {
        name: repeated(value, count)
        if isinstance(value, Mapping)
        else value.expand(count, *value.shape[1:])
        for name, value in told.items()
    }


def guidance_vector(cfg: float, width: int) -> torch.Tensor:
    """The guidance `(1, width)` as latent consistency models are told it (arXiv 2310.04378)."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half) * (-math.log(10000.0) / (half - 1)))
    angles = 1000 * (cfg - 1) * frequencies
    return torch.cat([angles.sin(), angles.cos(), torch.zeros(width - 2 * half)])[None]


@torch.inference_mode()
def decode(vae: Any, latents: torch.Tensor) -> Picture:
    """The picture of latents. Raises NotFinite.

    A decoder that overflows in fp16 is tried once more, and stays, in fp32; the picture says so.
    """
    inner = latents_of_vae(vae, latents)
    stage = "the picture from the VAE decoder"
    pixels, is_widened = _checked_half(vae, lambda: _decoded(vae, inner), stage)
    note = DECODED_AGAIN if is_widened else ""
    return Picture(latents, ((pixels[0].float().cpu() + 1) / 2).clamp(0, 1), note)


def _checked_half(
    vae: Any, call: Callable[[], torch.Tensor], stage: str
) -> tuple[torch.Tensor, bool]:
    """What one half of an autoencoder gives, and whether fp16 was too narrow for it."""
    if vae.dtype is not torch.float16:
        return checked(vae, call, stage), False
    output = call()
    if torch.isfinite(output).all():
        return output, False
    vae.to(torch.float32)
    return checked(vae, call, stage), True


@torch.inference_mode()
def encode_picture(vae: Any, pixels: torch.Tensor) -> torch.Tensor:
    """The latents `(1, C, h, w)` of a picture `(3, H, W)` in 0..1, as denoisers take them.

    Raises NotFinite. An encoder that overflows in fp16 is computed in fp32, as in `decode`.
    """
    inputs = 2 * pixels[None] - 1
    stage = "the latents from the VAE encoder"
    inner, _ = _checked_half(vae, lambda: _encoded(vae, inputs), stage)
    return latents_of_denoiser(vae, inner.float().cpu())


def latents_of_vae(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """What the decoder takes for latents as denoisers have them."""
    mean, deviation = _statistics(vae)
    inner: torch.Tensor = latents * (deviation / vae.config.scaling_factor) + mean
    return inner.to(vae.device)


def latents_of_denoiser(vae: Any, inner: torch.Tensor) -> torch.Tensor:
    """The inverse of `latents_of_vae`."""
    mean, deviation = _statistics(vae)
    latents: torch.Tensor = (inner - mean) * (vae.config.scaling_factor / deviation)
    return latents


def _statistics(vae: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of the latents, by channel `(1, C, 1, 1)` or for all."""
    mean, deviation = (getattr(vae.config, f"latents_{name}", None) for name in ("mean", "std"))
    if mean is None or deviation is None:
        shift = getattr(vae.config, "shift_factor", None) or 0.0  # of families with 16 channels
        return torch.tensor(shift), torch.tensor(1.0)
    return torch.tensor(mean)[None, :, None, None], torch.tensor(deviation)[None, :, None, None]


def _encoded(vae: Any, pixels: torch.Tensor) -> torch.Tensor:
    encoded = vae.encode(pixels.to(vae.device, vae.dtype), return_dict=False)[0]
    inner: torch.Tensor = encoded if torch.is_tensor(encoded) else encoded.mean
    return inner


def _decoded(vae: Any, inner: torch.Tensor) -> torch.Tensor:
    decoded: torch.Tensor = vae.decode(inner.to(vae.dtype), return_dict=False)[0]
    return decoded


def guided(output: torch.Tensor, cfg: float, rescale: float = 0.0) -> torch.Tensor:
    """The guided one of two outputs, for the negative prompt and for the prompt."""
    unconditional, conditional = output.chunk(2)
    mixed = unconditional + cfg * (conditional - unconditional)
    if not rescale:
        return mixed
    axes = tuple(range(1, mixed.ndim))
    back = conditional.std(axes, keepdim=True) / mixed.std(axes, keepdim=True)
    return mixed * (rescale * back + (1 - rescale))


def _step(
    scheduler: Any,
    noise: torch.Tensor,
    time: torch.Tensor,
    latents: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    stepped: torch.Tensor = scheduler.step(
        noise, time, latents, generator=generator, return_dict=False
    )[0]
    return stepped
