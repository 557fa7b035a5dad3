"""Questions put to the networks themselves, which no look at a single picture answers.

Does the UNet take noise away? A picture may be smooth although blocks of the network were mixed up.
So noise is added to the finished latents and the network asked for it: what it misses is compared
with what the best guess from mean and variance alone would miss. Does the autoencoder give a
picture back? It is shown a disc on a light ground, which any autoencoder knows how to draw.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from assetmgr.sampler.prompt import Conditioning
from assetmgr.sampler.render import Denoiser, decode, encode_picture, predicted, told_of
from assetmgr.sampler.schedules import plain_levels

LEVELS = (0.5, 1.2)
"""Noise added, in deviations of the latents: where a network knows most about a picture."""

DRAWS = 2
"""How often noise is drawn at each level."""

LARGEST = 512
"""Longest side of the picture that an autoencoder is shown, in pixels."""


@torch.inference_mode()
def noise_left(
    denoiser: Denoiser, prompt: Conditioning, latents: torch.Tensor, cfg: float, seed: int
) -> float:
    """What the network misses of noise in these latents: 0 for nothing, 1 as much as a guess does.

    Raises NotFinite.
    """
    generator = torch.Generator("cpu").manual_seed(seed + 1)
    told = told_of(denoiser, (prompt,), cfg)
    variance = max(latents.var().item(), 1e-6)
    missed = []
    for level in LEVELS * DRAWS:
        noise = torch.randn(latents.shape, generator=generator)
        sigma, found = _denoised(denoiser, told, latents, level * variance**0.5, noise)
        guess = variance * sigma**2 / (variance + sigma**2)
        missed.append((found - latents).square().mean().item() / guess)
    return math.fsum(missed) / len(missed)


def _denoised(
    denoiser: Denoiser,
    told: dict[str, Any],
    latents: torch.Tensor,
    wanted: float,
    noise: torch.Tensor,
) -> tuple[float, torch.Tensor]:
    """The level of noise next to the wanted one, and what the network makes of latents with it."""
    device = denoiser.network.device
    levels = plain_levels(denoiser.training, device)
    place = int((levels.sigmas[:-1].float().cpu() - wanted).abs().argmin())
    sigma, time = float(levels.sigmas[place]), levels.timesteps[place]
    noisy = (latents + sigma * noise).to(device)
    scaled = levels.scale_model_input(noisy, time)
    output = predicted(denoiser, scaled, time, told, "the UNet on its own picture with noise")
    return sigma, levels.step(output, time, noisy).pred_original_sample.float().cpu()


def round_trip(vae: Any, width: int, height: int) -> float:
    """How well an autoencoder gives back a disc on a light ground, in dB (PSNR).

    Raises NotFinite.
    """
    pixels = disc(*fitting(width, height))
    again = decode(vae, encode_picture(vae, pixels)).pixels
    return psnr(pixels, again)


def fitting(width: int, height: int) -> tuple[int, int]:
    """The size made smaller, if need be, in steps that keep both sides multiples of 64."""
    if max(width, height) <= LARGEST:
        return width, height
    scale = LARGEST / max(width, height)
    return max(64, int(width * scale) // 64 * 64), max(64, int(height * scale) // 64 * 64)


def disc(width: int, height: int) -> torch.Tensor:
    """A red disc on nearly white ground `(3, H, W)` in 0..1, with an edge two pixels soft."""
    across, down = torch.arange(width) + 0.5 - width / 2, torch.arange(height) + 0.5 - height / 2
    distance = (across[None].square() + down[:, None].square()).sqrt()
    inside = ((0.3 * min(width, height) - distance) / 2 + 0.5).clamp(0, 1)
    ground, colour = torch.tensor([0.95, 0.95, 0.95]), torch.tensor([0.86, 0.11, 0.13])
    return ground[:, None, None] + (colour - ground)[:, None, None] * inside


def psnr(first: torch.Tensor, second: torch.Tensor) -> float:
    """Peak signal to noise of two pictures in 0..1, in dB; 99 at most."""
    error = (first - second).square().mean().item()
    return min(99.0, -10 * math.log10(error)) if error > 0 else 99.0


def difference(first: Conditioning, second: Conditioning) -> float:
    """How far two encodings are apart, in deviations of the first; 0 where they are the same."""
    spread = first.hidden.float().std().item()
    apart = (first.hidden.float() - second.hidden.float()).square().mean().sqrt().item()
    return apart / spread if spread > 0 else 0.0
