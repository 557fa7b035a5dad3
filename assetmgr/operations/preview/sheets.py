"""Renders side by side: two assets with the figures of their difference, or one in many ways."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.preview.bases import base_of, choose_bases, no_base
from assetmgr.operations.preview.job import content_name, plan_job
from assetmgr.operations.preview.render import companions_of, outcome_json
from assetmgr.operations.preview.request import (
    PreviewRequest,
    check_picture,
    check_request,
    check_weight,
)
from assetmgr.operations.preview.subject import Subject, find_subject
from assetmgr.sampler.process.client import SamplerClient
from assetmgr.sampler.process.jobs import WEIGHTLESS, RenderJob, RenderOutcome
from assetmgr.sampler.process.sheet_jobs import Difference, SheetJob, SheetOutcome
from converters.errors import BadValue
from converters.progress import SILENT, Progress

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace

DEFAULT_WEIGHTS = (0.0, 0.5, 1.0)
MOST_CELLS = 400
SHEETS = "sheets"
"""Folder of sheets below that of the previews."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A render on a sheet; `asset` is its number in the library, None for a file outside of it."""

    asset: int | None
    path: str
    job: RenderJob
    outcome: RenderOutcome

    def to_json(self) -> dict[str, object]:
        """As a preview that has no files of its own."""
        return {"asset": self.asset, "path": self.path, **outcome_json(self.outcome)}


@dataclass(frozen=True, slots=True)
class Sheet:
    """A drawn sheet; `difference` is there for a comparison whose renders both gave a picture."""

    image: str
    cells: tuple[Cell, ...]
    difference: Difference | None
    seconds: float


@dataclass(frozen=True, slots=True)
class SheetPlan:
    """A sheet that can be drawn: the job, and whose render each cell is."""

    subjects: tuple[Subject, ...]
    job: SheetJob


def plan_comparison(workspace: Workspace, request: PreviewRequest) -> SheetPlan:
    """Two assets with the same seed and settings: those that the first would be rendered with.

    Raises BadValue unless the request names two, what finding them raises, NotAvailable without a
    base for an adapter, TargetExists for an output in the way.
    """
    if len(request.assets) != 2:
        raise BadValue("a comparison is of two assets")
    subjects = _subjects(workspace, request)
    first = _planned(workspace, request, subjects[0])
    settings = replace(
        request,
        prompt=first.prompt,
        steps=first.steps,
        cfg=first.cfg,
        sampler=first.sampler,
        size=(first.width, first.height),
    )
    second = _planned(workspace, settings, subjects[1])
    same = replace(second, trigger=second.trigger and first.trigger)
    stems = "-".join(content_name(subject.file)[:10] for subject in subjects)
    target = _target(workspace, request, f"compare-{stems}")
    columns = _told_apart([Path(subject.file.path) for subject in subjects])
    overwrite = request.output is None or request.overwrite
    job = SheetJob((first, same), columns, ("",), str(target), overwrite, compared=True)
    return SheetPlan(tuple(subjects), job)


def plan_grid(
    workspace: Workspace, request: PreviewRequest, weights: Sequence[float], prompts: Sequence[str]
) -> SheetPlan:
    """One asset at every weight (columns) with every prompt (rows); none means the usual ones.

    Raises BadValue unless the request names one, for weights of what has none, and for too many
    cells; otherwise as `plan_comparison`.
    """
    if len(request.assets) != 1:
        raise BadValue("a grid is of one asset")
    (subject,) = _subjects(workspace, request)
    planned = replace(_planned(workspace, request, subject), with_effect=False)
    if subject.file.kind in WEIGHTLESS and weights:
        raise BadValue(f"a {subject.file.kind} has no weight", path=subject.file.path)
    columns = () if subject.file.kind in WEIGHTLESS else tuple(weights) or DEFAULT_WEIGHTS
    for weight in columns:
        check_weight(weight)
    rows = tuple(prompts) or (planned.prompt,)
    cells = tuple(
        replace(planned, prompt=prompt, weight=weight)
        for prompt in rows
        for weight in columns or (planned.weight,)
    )
    if len(cells) > MOST_CELLS:
        raise BadValue(f"a grid has at most {MOST_CELLS} cells, not {len(cells)}")
    headings = tuple(f"weight {weight:g}" for weight in columns) or (subject.file.name,)
    target = _target(workspace, request, f"grid-{content_name(subject.file)}")
    overwrite = request.output is None or request.overwrite
    return SheetPlan(
        (subject,) * len(cells), SheetJob(cells, headings, rows, str(target), overwrite)
    )


def weights_of(text: str) -> tuple[float, ...]:
    """The numbers of `0,0.5,1`. Raises BadValue."""
    try:
        return tuple(float(part) for part in text.split(",")) if text.strip() else ()
    except ValueError as error:
        raise BadValue(f"{text!r} is not a list of weights such as 0,0.5,1") from error


def told(difference: Difference) -> str:
    """The figures in a line."""
    if difference.identical:
        return "the pictures are identical"
    latents = ""
    if difference.latent_max is not None:
        latents = f"latents differ by at most {difference.latent_max:.4g}, "
        latents += f"{difference.latent_mean:.4g} on the average; "
    return (
        f"{latents}pixels by at most {difference.pixel_max * 255:.1f} of 255; "
        f"PSNR {difference.psnr:.1f} dB, SSIM {difference.ssim:.4f}"
    )


def draw(
    plan: SheetPlan, progress: Progress = SILENT, *, sampler: SamplerClient | None = None
) -> Sheet:
    """Render the cells and write the sheet. Raises what a render raises, and WriteProblem."""
    with ExitStack() as stack:
        client = stack.enter_context(SamplerClient()) if sampler is None else sampler
        outcome = client.draw(plan.job, progress)
    return _sheet(plan, outcome)


def _sheet(plan: SheetPlan, outcome: SheetOutcome) -> Sheet:
    cells = tuple(
        Cell(subject.asset, subject.file.path, job, cell)
        for subject, job, cell in zip(plan.subjects, plan.job.cells, outcome.cells, strict=True)
    )
    return Sheet(outcome.image, cells, outcome.difference, outcome.seconds)


def _subjects(workspace: Workspace, request: PreviewRequest) -> list[Subject]:
    check_request(replace(request, output=None))
    if request.output is not None:
        check_picture(request.output, overwrite=request.overwrite)
    return [find_subject(workspace, reference) for reference in request.assets]


def _planned(workspace: Workspace, request: PreviewRequest, subject: Subject) -> RenderJob:
    """The render of a cell, which has no files of its own."""
    checkpoint = base_of(subject, choose_bases(workspace, request, [subject]))
    if checkpoint is None:
        raise no_base(subject)
    job = plan_job(request, subject, checkpoint, workspace.paths.previews)
    companions = companions_of(workspace, checkpoint)
    return replace(job, image=None, thumbnail=None, companions=companions)


def _target(workspace: Workspace, request: PreviewRequest, name: str) -> Path:
    if request.output is not None:
        return request.output
    return workspace.paths.previews / SHEETS / f"{name}.png"


def _told_apart(paths: Sequence[Path]) -> tuple[str, ...]:
    """The names of files, with as much of the folders as tells them apart."""
    depth = 1
    while len({path.parts[-depth:] for path in paths}) < len(paths) and depth < 10:
        depth += 1
    return tuple(str(Path(*path.parts[-depth:])) for path in paths)
