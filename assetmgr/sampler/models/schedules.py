"""The levels of noise that a network was trained on, as the schedulers of diffusers take them.

Sources: CompVis/stable-diffusion (the schedule of all Stable Diffusions to SDXL), arXiv 2305.08891
(zero terminal SNR).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assetmgr.sampler.rendering.solvers import Solver, edm_forms, solver_named
from converters.layouts.edm import Edm, edm_scheduler

TRAINING: Mapping[str, object] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
"""The noise schedule that all Stable Diffusions to SDXL were trained with."""

SPACING = "timestep_spacing"
ZERO_SNR: Mapping[str, object] = {"rescale_betas_zero_snr": True, SPACING: "trailing"}
"""What is different for a network that was trained down to pure noise (arXiv 2305.08891)."""


@dataclass(frozen=True, slots=True)
class Training:
    """What a network predicts (a word of diffusers), and from which noise."""

    prediction: str = "epsilon"
    zero_snr: bool = False
    edm: Edm | None = None


def scheduler_of(training: Training, solver: Solver, steps: int) -> Any:
    """The scheduler of diffusers for a render in so many steps.

    Its moments are on the CPU: some schedulers look each up, for which a device would be waited.
    """
    import diffusers

    name = solver.scheduler if training.edm is None else solver.edm_scheduler
    if name is None:
        raise ValueError(f"{solver.name} has no form for EDM")
    scheduler = getattr(diffusers, name)(**_options(training, solver, steps))
    scheduler.set_timesteps(steps)
    return scheduler


def usable_solver(training: Training, solver: Solver) -> Solver:
    """The solver itself; with levels of EDM the one that takes their steps, spread as they are."""
    if training.edm is None:
        return solver
    plain, karras = edm_forms(solver)
    return karras if training.edm.spread == "karras" else plain


def plain_levels(training: Training) -> Any:
    """A scheduler with many levels, to look at single ones."""
    return scheduler_of(training, solver_named("Euler"), 100)


def _options(training: Training, solver: Solver, steps: int) -> dict[str, object]:
    """The configuration; a single step is from pure noise.

    Moments that are spread from either end come to the one without noise, where they are one.
    """
    edm, prediction = training.edm, training.prediction
    if edm is not None:
        return dict(edm_scheduler(edm))
    own = {**TRAINING, **solver.options, **(ZERO_SNR if training.zero_snr else {})}
    if steps == 1 and SPACING in own:
        own[SPACING] = "trailing"
    return {**own, "prediction_type": prediction}
