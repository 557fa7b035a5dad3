"""One picture from loaded networks: noise, the sampling loop, the decoder.

The initial noise (and that of ancestral steps) is drawn in float32 on the CPU, so that a seed means
the same on every device. Guidance: `u + g·(c − u)` (arXiv 2207.12598); with g = 1 the negative
prompt is not evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from assetmgr.sampler.prompt import Conditioning
from assetmgr.sampler.solvers import Solver
from converters.progress import Progress

TRAINING: Mapping[str, object] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
"""The noise schedule that all Stable Diffusions to SDXL were trained with."""

ZERO_SNR: Mapping[str, object] = {
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
}
"""What is different for a network that was trained down to pure noise (arXiv 2305.08891)."""


class NotFinite(Exception):
    """A stage of the render gave infinities or NaN."""

    def __init__(self, stage: str) -> None:
        super().__init__(f"{stage} is not finite")
        self.stage = stage


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
    """A finished render on the CPU: latents `(1, C, h, w)`, pixels `(3, H, W)` in 0..1, float32."""

    latents: torch.Tensor
    pixels: torch.Tensor


@dataclass(frozen=True, slots=True)
class Denoiser:
    """A UNet and what a render with it depends on.

    `factor` is the pixels of a latent along an axis. `beside` `(1, k, h, w)` are channels that the
    network wants joined to the latents. `sizes` `(2, n)`, for the negative prompt and the prompt,
    are the numbers that SDXL is told.
    """

    network: Any
    factor: int
    channels: int = 4
    prediction: str = "epsilon"
    zero_snr: bool = False
    beside: torch.Tensor | None = None
    sizes: torch.Tensor | None = None


@torch.inference_mode()
def sample(
    denoiser: Denoiser,
    positive: Conditioning,
    negative: Conditioning,
    sampling: Sampling,
    progress: Progress,
) -> torch.Tensor:
    """Latents `(1, C, H/factor, W/factor)`, float32 on the CPU. Raises NotFinite."""
    unet, factor = denoiser.network, denoiser.factor
    require_finite(positive.hidden, "the text encoding of the prompt")
    require_finite(negative.hidden, "the text encoding of the negative prompt")
    is_guided = sampling.cfg != 1.0
    told = _told(denoiser, (negative, positive) if is_guided else (positive,))
    generator = torch.Generator("cpu").manual_seed(sampling.seed)
    scheduler = _scheduler(denoiser, sampling)
    shape = (1, denoiser.channels, sampling.height // factor, sampling.width // factor)
    latents = torch.randn(shape, generator=generator).to(unet.device) * scheduler.init_noise_sigma
    for number, time in enumerate(scheduler.timesteps, start=1):
        scaled = _joined(scheduler.scale_model_input(latents, time), denoiser.beside)
        inputs = (torch.cat([scaled, scaled]) if is_guided else scaled).to(unet.dtype)
        output = unet(inputs, time, **told, return_dict=False)[0]
        noise = guided(output.float(), sampling.cfg) if is_guided else output.float()
        require_finite(noise, f"the UNet at step {number} of {sampling.steps}")
        latents = _step(scheduler, noise, time, latents, generator)
        require_finite(latents, f"the latents after step {number} of {sampling.steps}")
        progress.advance()
    finished: torch.Tensor = latents.float().cpu()
    return finished


def _told(denoiser: Denoiser, conditionings: Sequence[Conditioning]) -> dict[str, Any]:
    """The arguments of the UNet beside latents and time."""
    unet = denoiser.network
    told: dict[str, Any] = {
        "encoder_hidden_states": torch.cat([each.hidden for each in conditionings])
    }
    if denoiser.sizes is not None:
        pooled = [each.pooled for each in conditionings if each.pooled is not None]
        told["added_cond_kwargs"] = {
            "text_embeds": torch.cat(pooled),
            "time_ids": denoiser.sizes[-len(conditionings) :].to(unet.device, unet.dtype),
        }
    return told


def _joined(latents: torch.Tensor, beside: torch.Tensor | None) -> torch.Tensor:
    return latents if beside is None else torch.cat([latents, beside.to(latents)], dim=1)


@torch.inference_mode()
def decode(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Pixels `(3, H, W)` in 0..1, float32 on the CPU. Raises NotFinite.

    A decoder that overflows in fp16 is tried once more, and stays, in fp32.
    """
    pixels = _decoded(vae, latents)
    if vae.dtype is torch.float16 and not torch.isfinite(pixels).all():
        vae.to(torch.float32)
        pixels = _decoded(vae, latents)
    require_finite(pixels, "the picture from the VAE decoder")
    return ((pixels + 1) / 2).clamp(0, 1)


def require_finite(values: torch.Tensor, stage: str) -> None:
    """Raises NotFinite naming `stage` unless all values are finite."""
    if not torch.isfinite(values).all():
        raise NotFinite(stage)


def _decoded(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    shift = getattr(vae.config, "shift_factor", None) or 0.0  # of the families with 16 channels
    scaled = latents.to(vae.device, vae.dtype) / vae.config.scaling_factor + shift
    decoded: torch.Tensor = vae.decode(scaled, return_dict=False)[0]
    return decoded[0].float().cpu()


def guided(output: torch.Tensor, cfg: float) -> torch.Tensor:
    """The guided one of two outputs, for the negative prompt and for the prompt."""
    unconditional, conditional = output.chunk(2)
    return unconditional + cfg * (conditional - unconditional)


def _scheduler(denoiser: Denoiser, sampling: Sampling) -> Any:
    import diffusers

    scheduler_class = getattr(diffusers, sampling.solver.scheduler)
    options = {**TRAINING, **sampling.solver.options, "prediction_type": denoiser.prediction}
    scheduler = scheduler_class(**{**options, **(ZERO_SNR if denoiser.zero_snr else {})})
    scheduler.set_timesteps(sampling.steps, device=denoiser.network.device)
    return scheduler


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
