"""The noise schedule of Stable Diffusion 1 and the loss that trains on it.

Sources: DDPM (arXiv 2006.11239), latent diffusion (2112.10752): 1000 steps, betas linear in their
square roots from 0.00085 to 0.012, the network predicts the noise.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

STEPS = 1000

Denoiser = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(noisy latents, steps) -> predicted noise."""


def alphas() -> torch.Tensor:
    """The product of 1 - beta up to each step, (1000,)."""
    roots = torch.linspace(0.00085**0.5, 0.012**0.5, STEPS, dtype=torch.float64)
    return torch.cumprod(1 - roots**2, 0).float()


def noise_loss(denoise: Denoiser, latents: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the predicted noise at random steps."""
    steps = torch.randint(0, STEPS, (len(latents),))
    kept = alphas()[steps][:, None, None, None]
    noise = torch.randn_like(latents)
    predicted = denoise(kept.sqrt() * latents + (1 - kept).sqrt() * noise, steps)
    return functional.mse_loss(predicted, noise)
