"""The samplers by the names people know, and what stands behind them in diffusers.

The names are those of the AUTOMATIC1111 web UI, so that parameters can be exchanged. A name with
a schedule at its end ("DPM++ 2M Karras") is how its older versions spelled sampler and schedule.
Arithmetic: DPM-Solver++ (arXiv 2211.01095), Euler and Karras sigmas (arXiv 2206.00364), DDIM
(arXiv 2010.02502), LCM (arXiv 2310.04378), as implemented by diffusers' schedulers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from converters.errors import BadValue

EVEN_DPM = "DPM++ 2M"
DEFAULT_SOLVER = f"{EVEN_DPM} Karras"
"""As the web UI, where nobody chooses: more of the steps are spent on the last of the noise."""
LCM = "LCM"

MOST_STEPS = 1000
"""Steps of the training schedule."""

LCM_STEPS = 50
"""Steps that latent consistency models were distilled from; they take no more."""


@dataclass(frozen=True, slots=True)
class Solver:
    """A row of the table: `scheduler` is a class of diffusers, `options` its configuration.

    `label` and `schedule` are how the parameters text of a picture names the two: even moments down
    to the last one, 0, are "Uniform", those without it "SGM Uniform". `edm_scheduler`
    is the class for networks with continuous levels of noise, None where there is none.
    """

    name: str
    label: str
    schedule: str | None
    scheduler: str
    options: Mapping[str, object] = field(default_factory=dict, hash=False)
    edm_scheduler: str | None = None
    most_steps: int = MOST_STEPS


_DPM = {"timestep_spacing": "linspace", "final_sigmas_type": "zero"}
_EDM_DPM = "EDMDPMSolverMultistepScheduler"

SOLVERS = (
    Solver(EVEN_DPM, EVEN_DPM, "SGM Uniform", "DPMSolverMultistepScheduler", _DPM, _EDM_DPM),
    Solver(
        DEFAULT_SOLVER,
        EVEN_DPM,
        "Karras",
        "DPMSolverMultistepScheduler",
        {**_DPM, "use_karras_sigmas": True},
        _EDM_DPM,
    ),
    Solver(
        "Euler",
        "Euler",
        "Uniform",
        "EulerDiscreteScheduler",
        {"timestep_spacing": "linspace"},
        "EDMEulerScheduler",
    ),
    Solver(
        "Euler Karras",
        "Euler",
        "Karras",
        "EulerDiscreteScheduler",
        {"timestep_spacing": "linspace", "use_karras_sigmas": True},
        "EDMEulerScheduler",
    ),
    Solver(
        "Euler a",
        "Euler a",
        "Uniform",
        "EulerAncestralDiscreteScheduler",
        {"timestep_spacing": "linspace"},
    ),
    Solver(
        "DDIM",
        "DDIM",
        None,
        "DDIMScheduler",
        {
            "timestep_spacing": "leading",
            "steps_offset": 1,
            "set_alpha_to_one": False,
            "clip_sample": False,
        },
    ),
    Solver(
        LCM,
        "LCM",
        None,
        "LCMScheduler",
        {"original_inference_steps": LCM_STEPS},
        most_steps=LCM_STEPS,
    ),
)


def edm_forms(solver: Solver) -> tuple[Solver, Solver]:
    """What samples in its place where the levels of noise are EDM's, plain and spread as Karras'.

    Which of the two, the model decides.
    """
    label = EVEN_DPM if solver.edm_scheduler is None else solver.label
    return solver_named(label), solver_named(f"{label} Karras")


def solver_named(name: str) -> Solver:
    """The solver called `name`, in any case. Raises BadValue that lists the names."""
    for solver in SOLVERS:
        if solver.name.casefold() == name.strip().casefold():
            return solver
    known = ", ".join(solver.name for solver in SOLVERS)
    raise BadValue(f"unknown sampler {name!r}", hint=f"known samplers: {known}")
