"""How far two renders are apart, in figures.

SSIM: Z. Wang et al., Image Quality Assessment, IEEE TIP 13(4), 2004: Gaussian window of 11x11 with
a spread of 1.5, K = (0.01, 0.03), on luma (ITU-R BT.601), where the window lies within the picture.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from assetmgr.sampler.process.sheet_jobs import Difference
from assetmgr.sampler.rendering.render import Picture

_WINDOW, _SPREAD = 11, 1.5
_STABILISERS = (0.01**2, 0.03**2)
_LUMA = (0.299, 0.587, 0.114)


def difference(first: Picture, second: Picture) -> Difference:
    """The figures of two pictures of one size."""
    latents = None
    if first.latents.shape == second.latents.shape:
        latents = (first.latents - second.latents).abs()
    pixels = (first.pixels - second.pixels).abs()
    mse = pixels.double().square().mean().item()
    return Difference(
        identical=mse == 0.0,
        latent_max=None if latents is None else latents.max().item(),
        latent_mean=None if latents is None else latents.mean().item(),
        pixel_max=pixels.max().item(),
        pixel_mean=pixels.mean().item(),
        psnr=-10 * math.log10(mse) if mse else None,
        ssim=ssim(first.pixels, second.pixels),
    )


def ssim(first: torch.Tensor, second: torch.Tensor) -> float:
    """The structural similarity of pixels `(3, H, W)` in 0..1; sides of at least 11 pixels."""
    x, y = _luma(first), _luma(second)
    mean_x, mean_y = _blurred(x), _blurred(y)
    var_x = _blurred(x * x) - mean_x.square()
    var_y = _blurred(y * y) - mean_y.square()
    covariance = _blurred(x * y) - mean_x * mean_y
    c1, c2 = _STABILISERS
    likeness = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    scale = (mean_x.square() + mean_y.square() + c1) * (var_x + var_y + c2)
    return (likeness / scale).mean().item()


def _luma(pixels: torch.Tensor) -> torch.Tensor:
    weights = torch.tensor(_LUMA, dtype=torch.float64)
    return (pixels.double() * weights[:, None, None]).sum(0)[None, None]


def _blurred(values: torch.Tensor) -> torch.Tensor:
    """Means under the window `(1, 1, H-10, W-10)`, one axis after the other."""
    places = torch.arange(_WINDOW, dtype=torch.float64) - _WINDOW // 2
    window = torch.exp(-places.square() / (2 * _SPREAD**2))
    window = (window / window.sum())[None, None]
    rows = functional.conv2d(values, window[:, :, :, None])
    return functional.conv2d(rows, window[:, :, None, :])
