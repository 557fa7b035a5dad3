"""What a preview may be asked for, and which values a render can have."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from assetmgr.sampler.rendering.solvers import DEFAULT_SOLVER, solver_named
from converters.errors import BadValue
from converters.writers.atomic import refuse_existing

MOST_CLIP_SKIP = 12
"""Layers of CLIP-L."""
SIZE_STEP = 8
SIZE_LIMITS = (64, 2048)


@dataclass(frozen=True, slots=True)
class PreviewRequest:
    """What to render and how; None leaves a choice to the program.

    `assets` are references (path, #ID, hash, name); none means all of the library that matches
    `query` and can be rendered, but for what has passed the same render before, unless `again`.
    `size` is (width, height) in pixels. `output` is the picture's file, for a single asset.
    """

    assets: tuple[str, ...] = ()
    query: str = ""
    again: bool = False
    base: str | None = None
    prompt: str | None = None
    negative: str = ""
    steps: int | None = None
    cfg: float | None = None
    sampler: str | None = None
    size: tuple[int, int] | None = None
    seed: int = 1
    weight: float = 1.0
    device: str = "auto"
    dtype: str = "auto"
    clip_skip: int = 1
    low_vram: bool = False
    output: Path | None = None
    overwrite: bool = False


def check_request(request: PreviewRequest) -> None:
    """Raises BadValue for values that no render can have, TargetExists for an output in the way."""
    solver = solver_named(request.sampler or DEFAULT_SOLVER)
    if request.steps is not None:
        _require(f"steps of {solver.name}", request.steps, 1, solver.most_steps)
    _require("clip skip", request.clip_skip, 1, MOST_CLIP_SKIP)
    if request.cfg is not None:
        _require("cfg", request.cfg, 0, 100)
    _require("seed", request.seed, 0, 2**63 - 1)
    check_weight(request.weight)
    for edge in request.size or ():
        _require("the size", edge, *SIZE_LIMITS)
        if edge % SIZE_STEP:
            raise BadValue(f"sizes are multiples of {SIZE_STEP}, not {edge}")
    if request.output is not None:
        if len(request.assets) != 1:
            raise BadValue("an output file can be given for a single asset only")
        check_picture(request.output, overwrite=request.overwrite)


def check_picture(path: Path, *, overwrite: bool) -> None:
    """Raises BadValue for a name that promises another format, TargetExists for one in the way."""
    if path.suffix.lower() not in ("", ".png"):
        raise BadValue("pictures are written as PNG: name it .png", path=path)
    refuse_existing(path, overwrite=overwrite)


def check_weight(weight: float) -> None:
    """Raises BadValue for a strength that no render can have."""
    _require("weight", weight, -100, 100)


def _require(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise BadValue(f"{name} must be from {low} to {high}, not {value}")


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Width and height of `512x768` where that is a size we render, else None."""
    match = re.fullmatch(r"\s*(\d{1,5})\s*[x×]\s*(\d{1,5})\s*", text or "")
    if match is None:
        return None
    width, height = int(match[1]), int(match[2])
    low, high = SIZE_LIMITS
    fits = all(low <= edge <= high and edge % SIZE_STEP == 0 for edge in (width, height))
    return (width, height) if fits else None
