"""Many previews in a row: their order, and what is there already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from assetmgr.operations.preview.bases import base_of
from assetmgr.operations.preview.subject import Subject
from assetmgr.sampler.process.jobs import Check, Parameters, RenderJob, RenderOutcome
from assetmgr.sampler.rendering.solvers import edm_forms, solver_named
from converters.bases import Prediction
from registry.pictures import picture_files


def in_order(
    subjects: list[Subject], bases: Mapping[str, Subject]
) -> list[tuple[Subject, Subject]]:
    """Subjects with what renders them; what renders on one base together, so that it loads once.

    A base renders in the midst of its adapters; checkpoints that are nobody's base come last.
    """
    order = {base.file.path: number for number, base in enumerate(bases.values())}
    pairs = [(each, base) for each in subjects if (base := base_of(each, bases)) is not None]
    return sorted(pairs, key=lambda pair: order.get(pair[1].file.path, len(order)))


def finished(subject: Subject, checkpoint: Subject, job: RenderJob) -> RenderOutcome | None:
    """What the library knows of this very render; None unless it passed and its pictures are there.

    Where the job leaves device and type of the weights open, any will do, and where `checkpoint`,
    which renders the subject, has samplers of its own, the one in whose place they are. A render
    that failed is no reason not to try again.
    """
    last = subject.last
    if last is None or last.verdict != "ok" or last.path is None or last.thumbnail is None:
        return None
    known = last.parameters
    device, dtype = (
        str(known.get(name)) if wish == "auto" else wish
        for name, wish in (("device", job.device), ("dtype", job.dtype))
    )
    parameters = replace(job, sampler=_sampler(checkpoint, job, known)).parameters(device, dtype)
    if asdict(parameters) != dict(known) or last.path != job.image:
        return None
    if not all(Path(file).is_file() for file in picture_files(last.path, last.thumbnail)):
        return None
    return _outcome(subject, parameters)


def _sampler(checkpoint: Subject, job: RenderJob, known: Mapping[str, object]) -> str:
    """The sampler of a render that would be the same."""
    forms = edm_forms(solver_named(job.sampler)) if checkpoint.prediction == Prediction.EDM else ()
    there = (solver.name for solver in forms if solver.name == known.get("sampler"))
    return next(there, job.sampler)


def _outcome(subject: Subject, parameters: Parameters) -> RenderOutcome | None:
    last = subject.last
    if last is None:
        return None
    checks = tuple(Check(**asdict(check)) for check in last.checks)
    return RenderOutcome(last.path, last.thumbnail, checks, 0.0, 0.0, None, parameters)
