"""Jobs of several renders on one picture, and what they come to; values that travel as JSON.

Nothing here imports torch.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from assetmgr.sampler.process.jobs import RenderJob, RenderOutcome


@dataclass(frozen=True, slots=True)
class SheetJob:
    """Renders side by side, row by row.

    `columns` head the columns, `rows` the rows; there are as many cells as their product. With
    `compared` there are two cells, whose difference is measured and drawn beside them.
    """

    cells: tuple[RenderJob, ...]
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    image: str
    overwrite: bool
    compared: bool = False

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self) | {"cells": [cell.to_json() for cell in self.cells]})

    @classmethod
    def from_json(cls, text: str) -> SheetJob:
        """The inverse of `to_json`."""
        document = json.loads(text)
        cells = tuple(RenderJob.from_json(cell) for cell in document.pop("cells"))
        document |= {name: tuple(document[name]) for name in ("columns", "rows")}
        return cls(cells=cells, **document)


@dataclass(frozen=True, slots=True)
class Difference:
    """How far two renders are apart.

    Latents are compared where they have one shape. Pixels are 0 to 1; `psnr` is in dB, None for
    equal pictures. `ssim` is 1 for equal pictures (Wang et al. 2004, luma, Gaussian window of 11).
    """

    identical: bool
    latent_max: float | None
    latent_mean: float | None
    pixel_max: float
    pixel_mean: float
    psnr: float | None
    ssim: float


@dataclass(frozen=True, slots=True)
class SheetOutcome:
    """What became of a sheet; `seconds` is all of it.

    `difference` is None where a cell is empty, and without comparison.
    """

    image: str
    cells: tuple[RenderOutcome, ...]
    difference: Difference | None
    seconds: float

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self) | {"cells": [cell.to_json() for cell in self.cells]})

    @classmethod
    def from_json(cls, text: str) -> SheetOutcome:
        """The inverse of `to_json`."""
        document = json.loads(text)
        cells = tuple(RenderOutcome.from_json(cell) for cell in document.pop("cells"))
        difference = document.pop("difference")
        measured = None if difference is None else Difference(**difference)
        return cls(cells=cells, difference=measured, **document)


def job_of_line(line: str) -> RenderJob | SheetJob:
    """The job that a line of JSON describes."""
    kind = SheetJob if "cells" in json.loads(line) else RenderJob
    return kind.from_json(line)
