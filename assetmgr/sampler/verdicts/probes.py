"""Questions put to the networks themselves, which no look at a single picture answers.

Does the UNet take noise away? A picture may be smooth although blocks of the network were mixed up.
So noise is added to the finished latents and the network asked for it: what it misses is compared
with what the best guess from mean and variance alone would miss. What it answers with an adapter at
several weights shows what each does, which is cheaper and steadier than whole renders. Does the
autoencoder give a picture back? It is shown a disc on a light ground, which any autoencoder knows
how to draw.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch

from assetmgr.sampler.models.schedules import plain_levels
from assetmgr.sampler.prompts.prompt import Conditioning
from assetmgr.sampler.rendering.flow import FlowNetwork
from assetmgr.sampler.rendering.render import (
    Denoiser,
    decode,
    encode_picture,
    predicted,
    repeated,
    told_of,
)

LEVELS = (0.5, 1.2)
"""Noise added, in deviations of the latents: where a network knows most about a picture."""

DRAWS = 2
"""How often noise is drawn at each level, to tell what a network misses of it."""

LARGEST = 512
"""Longest side of the picture that an autoencoder is shown, in pixels."""

FRUGAL = 256
"""The same where memory is short: a picture as large as a tile, so that it needs none."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The latents that a network takes noise of the levels `sigmas` off, `(1, C, h, w)` each.

    The same latents and seed have the same noise, so that answers can be compared.
    """

    cleaned: tuple[torch.Tensor, ...]
    sigmas: tuple[float, ...]

    def apart(self, other: Answers) -> float:
        """Root of the mean square between these answers and others, where both were asked."""
        pairs = zip(self.cleaned, other.cleaned, strict=False)
        squares = [(a - b).square().mean().item() for a, b in pairs]
        return math.sqrt(math.fsum(squares) / len(squares))


@torch.inference_mode()
def answers(
    denoiser: Denoiser,
    prompt: Conditioning,
    latents: torch.Tensor,
    draws: int,
    cfg: float,
    seed: int,
) -> Answers:
    """What a UNet makes of these latents with noise, all levels of a draw in one batch.

    Raises NotFinite.
    """
    spread = _spread(latents)
    told = repeated(told_of(denoiser, (prompt,), cfg), len(LEVELS))
    levels, device = plain_levels(denoiser.training), prompt.hidden.device
    asked: list[float] = []
    cleaned: list[torch.Tensor] = []
    stage = "the UNet on its own picture with noise"
    with denoiser.for_prompts(told):
        for draw in _noise(latents, draws, seed):
            questions = [
                _Question.of(copy(levels), level * spread, latents, noise, device)
                for level, noise in zip(LEVELS, draw, strict=True)
            ]
            inputs = torch.cat([each.scaled() for each in questions])
            times = torch.stack([each.time for each in questions]).to(device)
            outputs = predicted(denoiser, inputs, times, told, stage)
            cleaned += map(_Question.cleaned, questions, torch.split(outputs, 1))
            asked += [each.sigma for each in questions]
    return Answers(tuple(cleaned), tuple(asked))


@torch.inference_mode()
def answers_on_lines(
    network: FlowNetwork, latents: torch.Tensor, draws: int, seed: int, device: torch.device
) -> Answers:
    """What a network of straight lines makes of these latents, mixed with noise."""
    sigmas = tuple(level * _spread(latents) for level in LEVELS)
    cleaned: list[torch.Tensor] = []
    for noise in _noise(latents, draws, seed):
        for sigma, each in zip(sigmas, noise, strict=True):
            share = sigma / (1 + sigma)
            mixed = (1 - share) * latents + share * each
            cleaned.append(mixed - share * network(mixed.to(device), share).cpu())
    return Answers(tuple(cleaned), sigmas * draws)


def noise_left(answers: Answers, latents: torch.Tensor) -> float:
    """What a network misses of noise in these latents: 0 for nothing, 1 as much as a guess does."""
    variance = _spread(latents) ** 2
    missed = [
        (cleaned - latents).square().mean().item() * (variance + sigma**2) / (variance * sigma**2)
        for cleaned, sigma in zip(answers.cleaned, answers.sigmas, strict=True)
    ]
    return math.fsum(missed) / len(missed)


@dataclass(frozen=True, slots=True)
class _Question:
    """Latents with noise of a level that a UNet knows."""

    scheduler: Any
    sigma: float
    time: torch.Tensor
    noisy: torch.Tensor

    @classmethod
    def of(
        cls,
        scheduler: Any,
        wanted: float,
        latents: torch.Tensor,
        noise: torch.Tensor,
        device: torch.device,
    ) -> _Question:
        """At the level next to the wanted one."""
        place = int((scheduler.sigmas[:-1].float().cpu() - wanted).abs().argmin())
        sigma, time = float(scheduler.sigmas[place]), scheduler.timesteps[place]
        return cls(scheduler, sigma, time, (latents + sigma * noise).to(device))

    def scaled(self) -> torch.Tensor:
        """What the network takes."""
        scaled: torch.Tensor = self.scheduler.scale_model_input(self.noisy, self.time)
        return scaled

    def cleaned(self, output: torch.Tensor) -> torch.Tensor:
        """The latents that its output stands for."""
        step = self.scheduler.step(output, self.time, self.noisy)
        cleaned: torch.Tensor = step.pred_original_sample.float().cpu()
        return cleaned


def _spread(latents: torch.Tensor) -> float:
    return math.sqrt(max(latents.var().item(), 1e-6))


def _noise(latents: torch.Tensor, draws: int, seed: int) -> Iterator[list[torch.Tensor]]:
    """Noise for every level, draw by draw."""
    generator = torch.Generator("cpu").manual_seed(seed + 1)
    for _ in range(draws):
        yield [torch.randn(latents.shape, generator=generator) for _ in LEVELS]


def round_trip(vae: Any, width: int, height: int, largest: int = LARGEST) -> float:
    """How well an autoencoder gives back a disc on a light ground, in dB (PSNR).

    In whatever tones: some are trained to others on purpose. No side is longer than `largest`.
    Raises NotFinite.
    """
    pixels = disc(*fitting(width, height, largest))
    again = decode(vae, encode_picture(vae, pixels)).pixels
    return psnr(*in_one_tone(pixels, again))


CONTRAST = 3.0
"""Times by which the contrast of a picture may be another, either way."""


def in_one_tone(first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two pictures `(3, H, W)` without the mean of each colour, and the first's contrast for both.

    That is fitted by least squares, but for at most `CONTRAST`: a negative has another.
    """
    ours, theirs = (each - each.mean((1, 2), keepdim=True) for each in (first, second))
    gain = (ours * theirs).sum() / theirs.square().sum().clamp_min(1e-9)
    return ours, theirs * gain.clamp(1 / CONTRAST, CONTRAST)


def fitting(width: int, height: int, largest: int = LARGEST) -> tuple[int, int]:
    """The size made smaller, if need be, in steps that keep both sides multiples of 64."""
    if max(width, height) <= largest:
        return width, height
    scale = largest / max(width, height)
    return max(64, int(width * scale) // 64 * 64), max(64, int(height * scale) // 64 * 64)


def disc(width: int, height: int) -> torch.Tensor:
    """A red disc on nearly white ground `(3, H, W)` in 0..1, with an edge two pixels soft."""
    across, down = torch.arange(width) + 0.5 - width / 2, torch.arange(height) + 0.5 - height / 2
    distance = (across[None].square() + down[:, None].square()).sqrt()
    inside = ((0.3 * min(width, height) - distance) / 2 + 0.5).clamp(0, 1)
    ground, colour = torch.tensor([0.95, 0.95, 0.95]), torch.tensor([0.86, 0.11, 0.13])
    return ground[:, None, None] + (colour - ground)[:, None, None] * inside


def psnr(first: torch.Tensor, second: torch.Tensor) -> float:
    """Peak signal to noise of two pictures with a range of 1, in dB; 99 at most."""
    error = (first - second).square().mean().item()
    return min(99.0, -10 * math.log10(error)) if error > 0 else 99.0


def difference(first: Conditioning, second: Conditioning) -> float:
    """How far two encodings are apart, in deviations of the first; 0 where they are the same."""
    spread = first.hidden.float().std().item()
    apart = (first.hidden.float() - second.hidden.float()).square().mean().sqrt().item()
    return apart / spread if spread > 0 else 0.0
