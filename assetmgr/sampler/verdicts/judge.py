"""Whether a picture proves that its model works: the checks behind a verdict.

No reference pictures are needed. "Denoised" looks at the spread of the finished latents: training
scales latents to a spread of 1, the noise a render begins with has 14.6, and a network that does
not denoise leaves most of it. "Not noise" is the correlation of neighbours in the picture, between
pixels and between the means of cells as large as one latent: decoded noise is smooth between pixels
but nearly independent between cells. Real pictures correlate the more the finer the grid of cells
is, so the threshold grows with it. Measured with real renders of 64 pixels, photographs at 64, 256
and 512, white noise, undenoised latents, and random and zeroed weights; the tests hold examples.

A picture can look whole although its model is not, so the networks are asked one by one as well
(`probes`). Over 50 seeds and six prompts the trained family of the demo raises no alarm: spread of
latents 0.77 to 1.04, mean brightness 0.11 to 0.88, deviation at least 0.10, correlation at least
0.64, noise left at most 0.58. Nor do its checkpoint, LoRA, embedding, hypernetwork and VAE over 50
seeds that no threshold was chosen with (1000 to 1049, 20 steps of DPM++ 2M Karras; even moments in
brackets): spread of latents up to 1.46 (1.48), correlation at least 0.76 (0.76), of the LoRA's
outlines 0.385 (0.379), noise left at most 0.47 (0.50), effect at least 0.029 (0.029).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum

import torch
from torch.nn import functional

from assetmgr.sampler.process.jobs import Check
from assetmgr.sampler.rendering.render import Picture
from assetmgr.sampler.verdicts.finiteness import NotFinite

BLACK = 0.02
"""Mean brightness of a picture that counts as black."""
WHITE = 0.985
"""Mean brightness of a picture that counts as white."""
FLAT = 1 / 255
"""Standard deviation of a picture that counts as a single colour."""
UNDENOISED = 4.0
"""Standard deviation of latents that still hold noise. Healthy: 0.5 to 2; random weights: 17-21."""
NOISE = (0.2, 0.5)
"""Correlation of neighbours below which a picture counts as noise, with 8 and with 64 cells a side.

With 8 cells there are 112 pairs of neighbours, whose correlation is 0.09 away from 0 by chance: the
lower limit is twice that. Photographs reach at least 0.34 and 0.70; outlines one cell thick 0.27
with 8 cells, where chance alone gives decoded noise up to 0.34: so small pictures are told by their
latents and the UNet.
"""
OTHER_PICTURE = 0.5
"""Correlation of two decodings of the same latents below which they show different things."""
AS_BASE = "the base alone fails it, too"
WEIGHTS = "weights finite"
FINITE = "finite"
"""Names of the checks that all weights are finite, and what every stage gave."""
NOISE_LEFT = 0.8
"""Noise that the UNet misses, where 1 is what a guess by mean and variance misses.

Trained networks: 0.02 to 0.6, 0.08 in the middle; with 10 steps, which leave pictures unfinished,
0.79 was the most of 170, with 20 steps 0.51 of 50. Of 72 further pictures (seeds 3000 to 3011, six
prompts, 20 steps) 0.54 with Karras' levels; with even moments one had 0.83, a false alarm. Blocks
swapped where it shows: 0.6 to 1.1; all blocks shuffled, rows permuted, random or zero weights: 1.2
to 2.1; weights with noise as large as themselves: 1.2, with a third of it, whose pictures are still
good: 0.17.
"""
TOO_STRONG = 30.0
"""Change of a weight, in its own size (root of mean square), that no training comes to.

Of the demo's LoRA 0.27 at most. The changes of three LoRAs for SD1 out of the wild are 0.001 at
most, where the weights of such layers are some 0.03.
"""
SAME_PROMPT = 1e-3
"""Distance of two prompts' encodings: 0 with zeroed encoders; trained ones: 0.33 to 0.77."""
ROUND_TRIP = 13.0
"""PSNR in dB of a disc that went through the autoencoder, in whatever tones.

The family's own and one trained to warmer colours: 24 to 34 at 64 pixels, 20 at 256, 16.2 at 512,
which neither was trained for. Zeroed, random or permuted weights, 50 seeds each: 9.4 to 11.0, where
10.5 is a picture without anything; weights with noise as large as themselves: 10.2 to 17.9.
"""
NO_EFFECT = 0.5 / 255
"""Mean absolute difference below which two pictures count as the same."""
HALF = (0.1, 1.5)
"""Share of an effect on the network's answers that half the weight has.

What grows with the weight has 0.5, with its cube 0.125; above 1 the whole weight undoes what half
of it does. Over 50 seeds the demo's LoRA has 0.44 to 0.57, its hypernetwork 0.63 to 0.72.
"""


def loads_completely(missing: Sequence[str], unexpected: Sequence[str], *, note: str = "") -> Check:
    """Passes when every tensor a network needs was there and none was left over."""
    parts = [*_named("missing", missing), *_named("not used", unexpected)]
    ok = not parts
    return Check("loads completely", ok, None, None, "; ".join(parts) if parts else note)


def safe(danger: str) -> Check:
    """Fails: nothing of the file was run here, but whoever trusts the verdict may open it."""
    return Check("safe", False, None, None, danger)


def weights_finite(names: Sequence[str]) -> Check:
    """Passes when no weight is NaN or infinite; `names` are the tensors that hold some."""
    detail = "; ".join(_named("with NaN or infinities", names)) or "no NaN, no infinity"
    return Check(WEIGHTS, not names, float(len(names)), 0.0, detail)


def finite(error: NotFinite | None, note: str = "") -> Check:
    """Fails when a stage of the render gave NaN or infinities."""
    if error is not None:
        return Check(FINITE, False, None, None, str(error))
    return Check(FINITE, True, None, None, note or "every stage gave finite values")


def beside_base(picture: Picture, base: Picture | None, factor: int) -> tuple[Check, ...]:
    """As `of_picture`; what the picture of the base alone fails as well says so."""
    checks = of_picture(picture, factor)
    if base is None or all(check.ok for check in checks):
        return checks
    same = f"; {AS_BASE}"
    return tuple(
        replace(ours, detail=ours.detail + same) if not (ours.ok or alone.ok) else ours
        for ours, alone in zip(checks, of_picture(base, factor), strict=True)
    )


def of_picture(picture: Picture, factor: int) -> tuple[Check, ...]:
    """Denoised, not black, white or flat, not noise; `factor`: pixels of a latent on an axis."""
    pixels = picture.pixels
    likeness, limit = neighbour_correlation(pixels, factor), noise_threshold(pixels, factor)
    return (
        _below("denoised", picture.latents.std().item(), UNDENOISED, "spread of the latents"),
        _above("not black", pixels.mean().item(), BLACK, "mean brightness, 0 to 1"),
        _below("not white", pixels.mean().item(), WHITE, "mean brightness, 0 to 1"),
        _above("not flat", pixels.std().item(), FLAT, "standard deviation of the pixels"),
        _above("not noise", likeness, limit, "correlation of neighbours, 0 for noise"),
    )


def effect(picture: Picture, reference: Picture) -> Check:
    """Passes when the picture differs from the one made without the adapter."""
    difference = _apart(picture, reference)
    return _above("effect", difference, NO_EFFECT, "mean difference from the render without it")


def half_effect(half: float, whole: float) -> Check:
    """Passes when half the weight changes the answers of the network, and by about half as much."""
    share = half / max(whole, 1e-9)
    low, high = HALF
    detail = f"share of the effect at half the weight, from {low:g} to {high:g}"
    return Check("half effect", low <= share <= high, round(share, 6), high, detail)


def removes_noise(left: float) -> Check:
    """Passes when the network takes added noise out of its own picture; see `probes.noise_left`."""
    return _below("removes noise", left, NOISE_LEFT, "noise missed, 1 for a guess by the mean")


class Exchanged(StrEnum):
    """Whose layers stand where another file has others; the words go into the check's detail."""

    NOT = ""
    HERE = "exchanged"
    THERE = "exchanged there"
    UNCLEAR = "exchanged in one of the two, a third of the family would tell in which"


def in_place(relative: str, compared: int, exchanged: Mapping[str, str], whose: Exchanged) -> Check:
    """Passes unless layers of the UNet stand where a relative has others, which has them right."""
    detail = f"{compared} layers of the UNet compared with {relative!r}"
    if exchanged:
        here, there = next(iter(exchanged.items()))
        detail += f"; {whose}: {here} with {there}"
    is_fault = whose is Exchanged.HERE
    count = len(exchanged) if is_fault else 0
    return Check("in place", not is_fault, float(count), 0.0, detail)


def strength(largest: float, name: str) -> Check:
    """Passes unless an adapter changes a weight by many times as much as there was."""
    detail = f"largest change of a weight, in its own size: {name}"
    return _below("strength", largest, TOO_STRONG, detail)


def prompt_matters(difference: float) -> Check:
    """Passes when the text encoders tell the prompt from the negative one."""
    detail = "distance of the prompts' encodings, in their deviations"
    return _above("prompt matters", difference, SAME_PROMPT, detail)


def round_trip(decibels: float) -> Check:
    """Passes when the autoencoder gives back a picture; see `probes.round_trip`."""
    return _above("round trip", decibels, ROUND_TRIP, "PSNR of a disc in its own tones, in dB")


def same_picture(picture: Picture, reference: Picture) -> Check:
    """Passes when another decoder shows the same things as the base's own, in whatever colours."""
    ours, theirs = _centred(picture.pixels), _centred(reference.pixels)
    power = (ours.square().sum() * theirs.square().sum()).sqrt().item()
    likeness = (ours * theirs).sum().item() / power if power > 0 else 0.0
    return _above("same picture", likeness, OTHER_PICTURE, "correlation with the base's decoding")


def _apart(first: Picture, second: Picture) -> float:
    return (first.pixels - second.pixels).abs().mean().item()


def neighbour_correlation(pixels: torch.Tensor, factor: int) -> float:
    """The smaller of the correlations between neighbouring pixels and neighbouring cells.

    `pixels` is `(3, H, W)`; a cell is `factor`×`factor` pixels. A flat picture has correlation 0.
    """
    cells = functional.avg_pool2d(pixels[None], factor)[0]
    return min(_correlation(pixels), _correlation(cells))


def noise_threshold(pixels: torch.Tensor, factor: int) -> float:
    """Where noise ends, by the number of cells on the shorter side."""
    doublings = math.log2(max(1, min(pixels.shape[1:]) // factor) / 8)
    low, high = NOISE
    return min(max(low + (high - low) * doublings / 3, low), high)


def _correlation(values: torch.Tensor) -> float:
    centred = _centred(values)
    power = centred.square().mean().item()
    if power < 1e-10 or min(values.shape[1:]) < 2:
        return 0.0
    beside = (centred[:, :, 1:] * centred[:, :, :-1]).mean().item()
    below = (centred[:, 1:] * centred[:, :-1]).mean().item()
    return (beside + below) / 2 / power


def _centred(values: torch.Tensor) -> torch.Tensor:
    """Each channel of `(3, H, W)` without its mean."""
    return values - values.mean((1, 2), keepdim=True)


def _above(name: str, value: float, threshold: float, detail: str) -> Check:
    return Check(name, value > threshold, round(value, 6), round(threshold, 6), detail)


def _below(name: str, value: float, threshold: float, detail: str) -> Check:
    return Check(name, value < threshold, round(value, 6), threshold, detail)


def _named(label: str, names: Sequence[str], limit: int = 5) -> list[str]:
    """`label` with the first few names, or nothing when there are none."""
    if not names:
        return []
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return [f"{len(names)} {label}: {', '.join(names[:limit])}{more}"]
