"""Draws sheets of several renders: contact sheets, and comparisons of two renders."""

from __future__ import annotations

import math
import time
from pathlib import Path

from assetmgr.sampler.images.infotext import parameters_text
from assetmgr.sampler.images.pictures import png_bytes, to_image
from assetmgr.sampler.images.sheets import draw_sheet
from assetmgr.sampler.process.batch_progress import BatchProgress
from assetmgr.sampler.process.jobs import RenderOutcome
from assetmgr.sampler.process.session import Session
from assetmgr.sampler.process.sheet_jobs import Difference, SheetJob, SheetOutcome
from assetmgr.sampler.rendering.render import Picture
from assetmgr.sampler.verdicts.differences import difference
from converters.progress import Progress
from converters.writers.atomic import write_whole


def render_sheet(session: Session, job: SheetJob, progress: Progress) -> SheetOutcome:
    """Render all cells and write their sheet, whole or not at all.

    A cell that gives no picture stays empty; its checks say why. Raises what a single render
    raises, and WriteProblem.
    """
    started = time.perf_counter()
    batch = BatchProgress(progress, len(job.cells))
    cells: list[RenderOutcome] = []
    pictures: list[Picture | None] = []
    for cell in job.cells:
        batch.begin(cell.subject.name)
        outcome, picture = session.drawn(cell, batch)
        cells.append(outcome)
        pictures.append(picture)
    measured = _measured(pictures) if job.compared else None
    _write(job, pictures, measured)
    return SheetOutcome(job.image, tuple(cells), measured, time.perf_counter() - started)


def _measured(pictures: list[Picture | None]) -> Difference | None:
    first, second = pictures
    return None if first is None or second is None else difference(first, second)


def _write(job: SheetJob, pictures: list[Picture | None], measured: Difference | None) -> None:
    images = [None if picture is None else to_image(picture.pixels) for picture in pictures]
    columns = job.columns
    first, second = (pictures[0], pictures[-1]) if measured is not None else (None, None)
    if measured is not None and first is not None and second is not None:
        factor = _visible(measured.pixel_max)
        images.append(to_image(((first.pixels - second.pixels).abs() * factor).clamp(0, 1)))
        columns = (
            *columns,
            f"difference, {factor} times" if measured.pixel_max else "no difference",
        )
    sheet = draw_sheet(images, columns, job.rows)
    data = png_bytes(sheet, parameters_text(job.cells[0]))
    write_whole(Path(job.image), data, overwrite=job.overwrite)


def _visible(largest: float) -> int:
    """A power of two that makes differences up to `largest` as bright as they can be."""
    return 1 << max(0, min(16, math.floor(-math.log2(largest)))) if largest > 0 else 1
