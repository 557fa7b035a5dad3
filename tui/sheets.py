"""Renders side by side on one picture: two assets, or one with several weights and prompts.

Everything here blocks and is called in threads; operations are imported when first used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from converters.errors import BadValue
from tui.answers import file, title_of
from tui.bridge import Lane
from tui.forms import Answers, Field, Form, Planned, Told
from tui.rendering import Rendering
from tui.sections import Section, named, text
from tui.text import count

if TYPE_CHECKING:
    from assetmgr.operations.preview.request import PreviewRequest
    from assetmgr.operations.preview.sheets import Sheet, SheetPlan
    from assetmgr.workspace import Workspace
    from converters.progress import Progress
    from registry.records import Asset

BETWEEN = "|"
"""What parts the prompts of a line."""
_OUTPUT = Field("output", "file", "", empty="with the previews; an older one is replaced")


class Sheets:
    """Forms of sheets; they are drawn by the sampler that previews keep warm."""

    def __init__(self, workspace: Workspace, rendering: Rendering) -> None:
        self._workspace, self._rendering = workspace, rendering

    def form(self, assets: Sequence[Asset]) -> Form:
        """The comparison of two assets, or the grid of one. Raises BadValue."""
        from assetmgr.sampler.process.jobs import WEIGHTLESS

        if len(assets) > 2:
            raise BadValue(
                "a sheet is of one asset, or of two side by side", hint="mark no more than two"
            )
        fields = self._rendering.fields(assets)
        if len(assets) == 2:
            title = f"{assets[0].name} beside {assets[1].name}"
            return Form(title, (*fields, _OUTPUT), partial(self._plan_pair, assets), "Render")
        (_, *rest) = (one for one in fields if one.name != "weight")
        prompts = Field("prompt", "prompts", "", empty=f"one {BETWEEN} another {BETWEEN} …")
        weights = Field("weights", "weights", "", empty="0,0.5,1")
        is_weighted = assets[0].kind not in WEIGHTLESS
        shown = (prompts, *((weights,) if is_weighted else ()), *rest, _OUTPUT)
        plan = partial(self._plan_grid, assets)
        return Form(title_of("Sheet of", assets), shown, plan, "Render")

    def _plan_pair(self, assets: Sequence[Asset], answers: Answers) -> Planned:
        from assetmgr.operations.preview.sheets import plan_comparison

        request = self._request(assets, answers)
        plan = plan_comparison(self._workspace, request)
        return self._planned(f"{assets[0].name} beside {assets[1].name}", request, plan)

    def _plan_grid(self, assets: Sequence[Asset], answers: Answers) -> Planned:
        from assetmgr.operations.preview.sheets import plan_grid, weights_of

        prompts = [each for part in answers["prompt"].split(BETWEEN) if (each := part.strip())]
        one = prompts[0] if len(prompts) == 1 else ""
        request = self._request(assets, {**answers, "prompt": one, "weight": "1"})
        weights = weights_of(answers.get("weights", ""))
        plan = plan_grid(self._workspace, request, weights, prompts)
        return self._planned(title_of("Sheet of", assets), request, plan)

    def _request(self, assets: Sequence[Asset], answers: Answers) -> PreviewRequest:
        wanted = answers["output"]
        request = self._rendering.request(assets, answers)
        return replace(request, output=file(wanted) if wanted.strip() else None)

    def _planned(self, title: str, request: PreviewRequest, plan: SheetPlan) -> Planned:
        job, first = plan.job, plan.job.cells[0]
        rows = (
            ("renders", text(f"{len(job.cells):,}: {len(job.rows)} × {len(job.columns)}")),
            ("columns", text("\n".join(job.columns))),
            ("prompts", text("\n".join(job.rows if any(job.rows) else (first.prompt,)))),
            ("size", text(f"{first.width}x{first.height} each")),
            ("picture", text(job.image)),
        )
        drawn: list[Sheet] = []
        work = partial(self._draw, request, plan, drawn)
        told = partial(_told, title, drawn)
        return Planned(title, (Section("", rows),), work, Lane.RENDER, told)

    def _draw(
        self, request: PreviewRequest, plan: SheetPlan, drawn: list[Sheet], progress: Progress
    ) -> str:
        from assetmgr.operations.preview.job import unheeded
        from assetmgr.operations.preview.sheets import draw

        sheet = draw(plan, progress, sampler=self._rendering.sampler)
        drawn.append(sheet)
        ignored = (said for cell in sheet.cells for said in unheeded(request, cell.outcome))
        done = f"{count(len(sheet.cells), 'render')} in {sheet.seconds:.1f} s"
        return ", ".join([done, *dict.fromkeys(ignored)])


def _told(title: str, drawn: Sequence[Sheet]) -> Told:
    return Told(title, tuple(_sections(drawn[-1])), drawn[-1].image)


def _sections(sheet: Sheet) -> Iterator[Section]:
    from assetmgr.operations.preview.render import failed_check
    from assetmgr.operations.preview.sheets import told

    rows = [("picture", text(sheet.image))]
    if sheet.difference is not None:
        rows.insert(0, ("difference", text(told(sheet.difference))))
    yield Section("", tuple(rows))
    failures = (failed_check(cell.path, cell.outcome) for cell in sheet.cells)
    found = [f"{each.path}: {each.error}" for each in failures if each is not None]
    yield from named("Failed checks", found, "$error")
