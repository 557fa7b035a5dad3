"""`assetmgr preview --compare` and `--grid`: what is printed of sheets."""

from __future__ import annotations

from dataclasses import asdict

from assetmgr.cli.options import Session
from assetmgr.operations.preview.job import unheeded
from assetmgr.operations.preview.render import failed_check
from assetmgr.operations.preview.request import PreviewRequest
from assetmgr.operations.preview.sheets import (
    Sheet,
    SheetPlan,
    draw,
    plan_comparison,
    plan_grid,
    told,
    weights_of,
)
from assetmgr.text import plain
from assetmgr.workspace import Workspace


def compare(session: Session, request: PreviewRequest) -> int:
    """Render two assets and say how far they are apart."""
    with Workspace.open() as workspace:
        sheet = _drawn(session, request, plan_comparison(workspace, request))
    if session.as_json:
        first, second = (cell.to_json() for cell in sheet.cells)
        measured = None if sheet.difference is None else asdict(sheet.difference)
        _document(session, sheet, {"first": first, "second": second, "difference": measured})
    elif sheet.difference is not None:
        session.output.line(told(sheet.difference))
    return session.status


def grid(session: Session, request: PreviewRequest, weights: str, prompts: tuple[str, ...]) -> int:
    """Render an asset at every weight with every prompt."""
    with Workspace.open() as workspace:
        sheet = _drawn(
            session, request, plan_grid(workspace, request, weights_of(weights), prompts)
        )
    if session.as_json:
        cells = [cell.to_json() for cell in sheet.cells]
        _document(session, sheet, {"cells": cells})
    return session.status


def _drawn(session: Session, request: PreviewRequest, plan: SheetPlan) -> Sheet:
    with session.progress() as progress:
        sheet = draw(plan, progress)
    for path, outcome in {cell.path: cell.outcome for cell in sheet.cells}.items():
        for said in unheeded(request, outcome):
            session.warn(f"{path}: {said}")
    for failure in (failed_check(cell.path, cell.outcome) for cell in sheet.cells):
        if failure is not None:
            session.fail(failure)
    if not session.as_json:
        session.output.line(
            f"{plain(sheet.image)}  {len(sheet.cells)} renders, {sheet.seconds:.1f} s"
        )
    return sheet


def _document(session: Session, sheet: Sheet, more: dict[str, object]) -> None:
    document = {"image": sheet.image, "seconds": sheet.seconds, **more}
    session.output.document({**document, "errors": session.errors()})
