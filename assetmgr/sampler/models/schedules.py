"""The levels of noise that a network was trained on, as the schedulers of diffusers take them.

Sources: CompVis/stable-diffusion (the schedule of all Stable Diffusions to SDXL), arXiv 2305.08891
(zero terminal SNR).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assetmgr.sampler.rendering.solvers import DEFAULT_SOLVER, Solver, solver_named
from converters.layouts.edm import Edm, edm_scheduler

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
    scheduler = getattr(diffusers, name)(**_options(training, solver))
    scheduler.set_timesteps(steps)
    return scheduler


def usable_solver(training: Training, solver: Solver) -> Solver:
    """The solver itself; with levels of EDM the one that takes their steps, spread as they are."""
    if training.edm is None:
        return solver
    label = DEFAULT_SOLVER if solver.edm_scheduler is None else solver.label
    return solver_named(f"{label} Karras" if training.edm.spread == "karras" else label)


def plain_levels(training: Training) -> Any:
    """A scheduler with many levels, to look at single ones."""
    return scheduler_of(training, solver_named("Euler"), 100)


def _options(training: Training, solver: Solver) -> dict[str, object]:
    edm, prediction = training.edm, training.prediction
    if edm is None:
        own = {**TRAINING, **solver.options, **(ZERO_SNR if training.zero_snr else {})}
        return {**own, "prediction_type": prediction}
    return dict(edm_scheduler(edm))
