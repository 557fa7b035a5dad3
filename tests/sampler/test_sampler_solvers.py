"""Every sampler's steps against the formulas of its paper, written out.

The network answers half of what it is given, so that all there is to compute is a line of algebra:
with x = x0 + sigma * noise its input is x / sqrt(sigma^2 + 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
import torch

from assetmgr.sampler.models.schedules import Training, scheduler_of
from assetmgr.sampler.prompts.prompt import Conditioning
from assetmgr.sampler.rendering.render import Denoiser, Sampling, sample
from assetmgr.sampler.rendering.solvers import SOLVERS, solver_named
from converters.progress import SILENT

# diffusers' schedulers convert tensors to arrays in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SEED = 3
CONTEXT = Conditioning(torch.zeros(1, 77, 8), None)

_BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
ALPHAS = torch.cumprod(1 - _BETAS, 0)
SIGMAS = ((1 - ALPHAS) / ALPHAS).sqrt()

Noise = Callable[[], torch.Tensor]
"""Draws `(1, 4, 8, 8)` from the seed's own generator: the start, then that of the steps."""


def half(x: torch.Tensor, time: torch.Tensor, **_: object) -> tuple[torch.Tensor]:
    """The network."""
    return (x / 2,)


def cleaned(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """x0 of x = x0 + sigma * noise."""
    return x - sigma * x / (2 * (sigma.square() + 1).sqrt())


def uniform(steps: int) -> list[torch.Tensor]:
    """Even in time between the ends, and 0."""
    places = torch.linspace(999, 0, steps, dtype=torch.float64)
    low = places.floor().long().clamp(max=998)
    return [*torch.lerp(SIGMAS[low], SIGMAS[low + 1], places - low), torch.zeros(())]


def karras(steps: int) -> list[torch.Tensor]:
    """arXiv 2206.00364, equation 5, and 0."""
    ends = SIGMAS[[-1, 0]] ** (1 / 7)
    ways = torch.linspace(0, 1, steps, dtype=torch.float64)
    return [*(torch.lerp(ends[0], ends[1], ways) ** 7), torch.zeros(())]


def even_times(steps: int) -> list[torch.Tensor]:
    """Even whole moments without the last one, 0."""
    return [*SIGMAS[torch.linspace(999, 0, steps + 1).round().long()[:-1]], torch.zeros(())]


def euler(sigmas: Sequence[torch.Tensor], noise: Noise) -> torch.Tensor:
    x = noise() * sigmas[0]
    for now, then in pairwise(sigmas):
        x = x + (x - cleaned(x, now)) / now * (then - now)
    return x


def ancestral(sigmas: Sequence[torch.Tensor], noise: Noise) -> torch.Tensor:
    """Down further than asked for, and up again by new noise (k-diffusion)."""
    x = noise() * sigmas[0]
    for now, then in pairwise(sigmas):
        up = (then**2 * (now**2 - then**2) / now**2).sqrt()
        down = (then**2 - up**2).sqrt()
        x = x + (x - cleaned(x, now)) / now * (down - now) + noise() * up
    return x


def dpm_2m(sigmas: Sequence[torch.Tensor], noise: Noise) -> torch.Tensor:
    """arXiv 2211.01095, algorithm 2, of first order at both ends."""
    x = noise() * (sigmas[0] ** 2 + 1).sqrt()
    before, last = None, torch.zeros(())
    for now, then in pairwise(sigmas):
        clean = cleaned(x, now)
        if then == 0:
            return clean
        step = now.log() - then.log()
        mixed = clean if before is None else clean + (clean - before) * step / (2 * last)
        x = then / now * x - torch.expm1(-step) * mixed
        before, last = clean, step
    raise AssertionError("the last level is 0")


def ddim(steps: int, noise: Noise) -> torch.Tensor:
    """arXiv 2010.02502, equation 12, at moments 751, 501, 251, 1; the first level comes last."""
    x, apart = noise(), 1000 // steps
    for moment in range(1001 - apart, 0, -apart) if steps > 1 else [999]:
        now, then = ALPHAS[moment], ALPHAS[max(moment - apart, 0)]
        clean = (x - (1 - now).sqrt() * x / 2) / now.sqrt()
        x = then.sqrt() * clean + (1 - then).sqrt() * x / 2
    return x


def lcm(steps: int, noise: Noise) -> torch.Tensor:
    """arXiv 2310.04378, algorithm 3, at some of the 50 moments that are distilled from."""
    x, moments = noise(), [20 * (50 - 50 * n // steps) - 1 for n in range(steps)]
    for now, then in pairwise([*moments, None]):
        assert now is not None
        scaled, alpha = 10 * now, ALPHAS[now]
        skip, out = 0.25 / (scaled**2 + 0.25), scaled / (scaled**2 + 0.25) ** 0.5
        clean = out * (x - (1 - alpha).sqrt() * x / 2) / alpha.sqrt() + skip * x
        if then is None:
            return clean
        x = ALPHAS[then].sqrt() * clean + (1 - ALPHAS[then]).sqrt() * noise()
    raise AssertionError("the last one is None")


FORMULAS: dict[str, Callable[[int, Noise], torch.Tensor]] = {
    "DPM++ 2M": lambda steps, noise: dpm_2m(even_times(steps), noise),
    "DPM++ 2M Karras": lambda steps, noise: dpm_2m(karras(steps), noise),
    "Euler": lambda steps, noise: euler(uniform(steps), noise),
    "Euler Karras": lambda steps, noise: euler(karras(steps), noise),
    "Euler a": lambda steps, noise: ancestral(uniform(steps), noise),
    "DDIM": ddim,
    "LCM": lcm,
}


def test_there_is_a_formula_for_each() -> None:
    assert [*FORMULAS] == [solver.name for solver in SOLVERS]


def drawn(sampling: Sampling, training: Training) -> torch.Tensor:
    return sample(Denoiser(half, 8, training=training), CONTEXT, CONTEXT, sampling, SILENT)


@pytest.mark.parametrize("name", FORMULAS)
def test_a_sampler_takes_as_many_steps_as_it_is_said_to(name: str) -> None:
    solver = solver_named(name)
    sampling = Sampling(solver, solver.most_steps, 1.0, width=64, height=64, seed=SEED)
    assert drawn(sampling, Training()).isfinite().all()


def test_levels_of_noise_that_share_a_moment_are_all_stepped_through() -> None:
    """As Karras' from pure noise do: the first two of 60 are at the last moment."""
    zero = Training("v_prediction", zero_snr=True)
    sampling = Sampling(solver_named("DPM++ 2M Karras"), 60, 1.0, width=64, height=64, seed=SEED)
    moments = scheduler_of(zero, sampling.solver, sampling.steps).timesteps
    assert moments[0] == moments[1]
    assert drawn(sampling, zero).isfinite().all()


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("name", FORMULAS)
def test_a_sampler_takes_the_steps_of_its_formula(name: str, steps: int) -> None:
    generator = torch.Generator("cpu").manual_seed(SEED)
    expected = FORMULAS[name](steps, lambda: torch.randn(1, 4, 8, 8, generator=generator).double())
    sampling = Sampling(solver_named(name), steps, 1.0, width=64, height=64, seed=SEED)
    ours = sample(Denoiser(half, 8), CONTEXT, CONTEXT, sampling, SILENT)
    assert torch.allclose(ours.double(), expected, atol=1e-3 * expected.std().item())
