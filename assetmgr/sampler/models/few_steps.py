"""Models and LoRAs that were distilled to few steps, which only their names tell.

A render in twenty steps with guidance burns them. Steps and guidance: the authors' of latent
consistency models (arXiv 2310.04378), SDXL Turbo, SDXL Lightning and Hyper-SD.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from assetmgr.sampler.rendering.solvers import LCM


@dataclass(frozen=True, slots=True)
class FewSteps:
    """How models are sampled in whose names `words` stand, as a whole word."""

    words: str
    solver: str
    steps: int
    cfg: float


FEW_STEPS = (
    FewSteps("lcm", LCM, 6, 1.5),
    FewSteps(
        r"turbo|hyper[-_ ]?sd|sdxl[-_ ]?lightning|lightning[-_ ]?\d+[-_ ]?steps?", "Euler a", 8, 1.0
    ),
)


def few_steps(*names: str) -> FewSteps | None:
    """The way to sample what has these names, None for the usual one."""
    for row in FEW_STEPS:
        pattern = re.compile(rf"(?<![a-z])(?:{row.words})(?![a-z])", re.IGNORECASE)
        if any(pattern.search(name) for name in names):
            return row
    return None
