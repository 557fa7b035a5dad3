"""One picture from loaded networks: noise, the sampling loop, the decoder.

The initial noise (and that of ancestral steps) is drawn in float32 on the CPU, so that a seed means
the same on every device. Guidance: `u + g·(c − u)` (arXiv 2207.12598); with g = 1 the negative
prompt is not evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from assetmgr.sampler.solvers import Solver
from converters.progress import Progress

TRAINING: Mapping[str, object] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
}
"""The noise schedule that Stable Diffusion 1 was trained with (CompVis/stable-diffusion)."""


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


@torch.inference_mode()
def sample(
    unet: Any,
    positive: torch.Tensor,
    negative: torch.Tensor,
    sampling: Sampling,
    factor: int,
    progress: Progress,
) -> torch.Tensor:
    """Latents `(1, C, H/factor, W/factor)`, float32 on the CPU. Raises NotFinite."""
    require_finite(positive, "the text encoding of the prompt")
    require_finite(negative, "the text encoding of the negative prompt")
    guided = sampling.cfg != 1.0
    conditioning = torch.cat([negative, positive]) if guided else positive
    generator = torch.Generator("cpu").manual_seed(sampling.seed)
    scheduler = _scheduler(sampling, unet.device)
    shape = (1, unet.config.in_channels, sampling.height // factor, sampling.width // factor)
    latents = torch.randn(shape, generator=generator).to(unet.device) * scheduler.init_noise_sigma
    for number, time in enumerate(scheduler.timesteps, start=1):
        scaled = scheduler.scale_model_input(latents, time).to(unet.dtype)
        inputs = torch.cat([scaled, scaled]) if guided else scaled
        output = unet(inputs, time, encoder_hidden_states=conditioning, return_dict=False)[0]
        noise = _guided(output.float(), sampling.cfg) if guided else output.float()
        require_finite(noise, f"the UNet at step {number} of {sampling.steps}")
        latents = _step(scheduler, noise, time, latents, generator)
        require_finite(latents, f"the latents after step {number} of {sampling.steps}")
        progress.advance()
    finished: torch.Tensor = latents.float().cpu()
    return finished


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
    scaled = latents.to(vae.device, vae.dtype) / vae.config.scaling_factor
    decoded: torch.Tensor = vae.decode(scaled, return_dict=False)[0]
    return decoded[0].float().cpu()


def _guided(output: torch.Tensor, cfg: float) -> torch.Tensor:
    unconditional, conditional = output.chunk(2)
    return unconditional + cfg * (conditional - unconditional)


def _scheduler(sampling: Sampling, device: torch.device) -> Any:
    import diffusers

    scheduler_class = getattr(diffusers, sampling.solver.scheduler)
    scheduler = scheduler_class(**TRAINING, **sampling.solver.options)
    scheduler.set_timesteps(sampling.steps, device=device)
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
