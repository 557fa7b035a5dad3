"""Whether a picture proves that its model works: the checks behind a verdict.

The statistics need no reference pictures. "Not noise" is the correlation of neighbouring values,
once between pixels and once between the means of cells as large as one latent: decoding latents
that were never denoised gives blotches that are smooth between pixels but independent between
cells. Thresholds were calibrated on real renders from 64×64 up and on white noise, undenoised
latents, random, zeroed and non-finite weights (see tests/sampler/test_judge.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from assetmgr.sampler.jobs import Check
from assetmgr.sampler.render import Picture

BLACK = 0.02
"""Mean brightness of a picture that counts as black."""
FLAT = 1 / 255
"""Standard deviation of a picture that counts as a single colour."""
NOISE = 0.3
"""Correlation of neighbours below which a picture counts as noise."""
NO_EFFECT = 0.5 / 255
"""Mean absolute difference below which two pictures count as the same."""


def loads_completely(missing: Sequence[str], unexpected: Sequence[str], *, note: str = "") -> Check:
    """Passes when every tensor a network needs was there and none was left over."""
    parts = [*_named("missing", missing), *_named("not used", unexpected)]
    ok = not parts
    return Check("loads completely", ok, None, None, "; ".join(parts) if parts else note)


def finite(stage: str | None, tensors: Sequence[str] = ()) -> Check:
    """Fails when a stage gave NaN or infinities; `tensors` are the weights that hold some."""
    if stage is None:
        return Check("finite", True, None, None, "every stage gave finite values")
    guilty = _named("non-finite weights", tensors)
    return Check("finite", False, None, None, "; ".join([f"{stage} is not finite", *guilty]))


def of_picture(picture: Picture, factor: int) -> tuple[Check, ...]:
    """Not black, not flat, not noise. `factor` is the pixels of one latent along an axis."""
    brightness = picture.pixels.mean().item()
    spread = picture.pixels.std().item()
    likeness = neighbour_correlation(picture.pixels, factor)
    return (
        _above("not black", brightness, BLACK, "mean brightness, 0 to 1"),
        _above("not flat", spread, FLAT, "standard deviation of the pixels"),
        _above("not noise", likeness, NOISE, "correlation of neighbours, 0 for noise"),
    )


def effect(picture: Picture, reference: Picture) -> Check:
    """Passes when the picture differs from the one made without the adapter."""
    difference = (picture.pixels - reference.pixels).abs().mean().item()
    return _above("effect", difference, NO_EFFECT, "mean difference from the render without it")


def neighbour_correlation(pixels: torch.Tensor, factor: int) -> float:
    """The smaller of the correlations between neighbouring pixels and neighbouring cells.

    `pixels` is `(3, H, W)`; a cell is `factor`×`factor` pixels. A flat picture has correlation 0.
    """
    cells = functional.avg_pool2d(pixels[None], factor)[0]
    return min(_correlation(pixels), _correlation(cells))


def _correlation(values: torch.Tensor) -> float:
    centred = values - values.mean((1, 2), keepdim=True)
    power = centred.square().mean().item()
    if power < 1e-10 or min(values.shape[1:]) < 2:
        return 0.0
    beside = (centred[:, :, 1:] * centred[:, :, :-1]).mean().item()
    below = (centred[:, 1:] * centred[:, :-1]).mean().item()
    return (beside + below) / 2 / power


def _above(name: str, value: float, threshold: float, detail: str) -> Check:
    return Check(name, value > threshold, round(value, 6), round(threshold, 6), detail)


def _named(label: str, names: Sequence[str], limit: int = 5) -> list[str]:
    """`label` with the first few names, or nothing when there are none."""
    if not names:
        return []
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return [f"{len(names)} {label}: {', '.join(names[:limit])}{more}"]
