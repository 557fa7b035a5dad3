"""Previews: the short way, and with everything chosen.

Everything here blocks and is called in threads; operations are imported when first used.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from converters.errors import BadValue
from tui.answers import number, place_of, summed_verdicts, title_of, told, whole
from tui.bridge import Lane
from tui.forms import Answers, Field, Form, Planned, same
from tui.sections import Section, text

if TYPE_CHECKING:
    from assetmgr.operations.preview.render import PreviewResult
    from assetmgr.operations.preview.request import PreviewRequest
    from assetmgr.sampler.process.client import SamplerClient
    from assetmgr.workspace import Workspace
    from converters.progress import Progress
    from registry.records import Asset

_DEVICES = ("auto", "cpu", "cuda", "mps")
_MOST_BASES = 40


class Rendering:
    """Renders of a workspace's assets; the sampler stays warm between them."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._sampler: SamplerClient | None = None

    @property
    def sampler(self) -> SamplerClient:
        """The sampler's process, which begins when it is first needed."""
        from assetmgr.sampler.process.client import SamplerClient

        if self._sampler is None:
            self._sampler = SamplerClient()
        return self._sampler

    def close(self) -> None:
        """End the sampler's process."""
        if self._sampler is not None:
            self._sampler.close()

    def preview(self, ids: Sequence[int], progress: Progress) -> str:
        """Render and judge as the program thinks best."""
        from assetmgr.operations.preview.render import PreviewRequest

        references = tuple(f"#{asset_id}" for asset_id in ids)
        return self._render(PreviewRequest(assets=references), progress)

    def _render(self, request: PreviewRequest, progress: Progress) -> str:
        from assetmgr.operations.failures import Failure
        from assetmgr.operations.preview.render import run_previews

        alone, verdicts = len(request.assets) == 1, []
        for result in run_previews(self._workspace, request, progress, sampler=self.sampler):
            if isinstance(result, Failure):
                told(result, progress, alone=alone)
                verdicts.append("failed")
                continue
            line = _line(request, result)
            progress.message(f"{result.path}: {line}")
            verdicts.append(line if alone else result.outcome.verdict)
        return summed_verdicts(verdicts)

    def form(self, assets: Sequence[Asset]) -> Form:
        """How to render, all of it chosen by hand."""
        plan = partial(self._plan, assets)
        return Form(title_of("Render", assets), self.fields(assets), plan, "Render")

    def fields(self, assets: Sequence[Asset]) -> tuple[Field, ...]:
        """All that can be chosen of a render."""
        from assetmgr.operations.preview.request import PreviewRequest
        from assetmgr.sampler.rendering.solvers import SOLVERS

        usual, solvers = PreviewRequest(), [each.name for each in SOLVERS]
        return (
            Field("prompt", "prompt", "", empty="its trigger words"),
            Field("negative", "not", ""),
            Field("base", "on", "", self._bases(assets)),
            Field("seed", "seed", str(usual.seed)),
            Field("steps", "steps", "", empty="those that suit the model"),
            Field("cfg", "cfg", "", empty="7; for SD3 4.5, for Flux 3.5"),
            Field("sampler", "sampler", "", (("", "the model's own"), *same(*solvers))),
            Field("size", "size", "", empty="512x768; that of the model"),
            Field("weight", "weight", "1", empty="of an adapter"),
            Field("device", "device", "auto", same(*_DEVICES)),
        )

    def _bases(self, assets: Sequence[Asset]) -> tuple[tuple[str, str], ...]:
        usual = ("", "the most complete checkpoint")
        if all(asset.kind == "checkpoint" for asset in assets):
            return (usual,)
        family = "sd-1" if assets[0].base == "unknown" else assets[0].base
        bases = self._workspace.library.bases(family)[:_MOST_BASES]
        return (usual, *((place_of(base), base.name) for base in bases))

    def _plan(self, assets: Sequence[Asset], answers: Answers) -> Planned:
        from assetmgr.operations.preview.request import check_request

        request = self.request(assets, answers)
        check_request(request)
        said = "the picture and the verdict replace those that are known"
        section = Section("", (("", text(said, "$dim")),))
        work = partial(self._render, request)
        return Planned(title_of("Preview of", assets), (section,), work, Lane.RENDER)

    def request(self, assets: Sequence[Asset], answers: Answers) -> PreviewRequest:
        """The answers to `fields`. Raises BadValue."""
        from assetmgr.operations.preview.request import PreviewRequest, parse_size

        size = parse_size(answers["size"])
        if answers["size"].strip() and size is None:
            raise BadValue("a size is two multiples of 8, such as 512x768")
        return PreviewRequest(
            assets=tuple(f"#{asset.id}" for asset in assets),
            base=answers["base"] or None,
            prompt=answers["prompt"].strip() or None,
            negative=answers["negative"],
            steps=whole(answers["steps"], "steps") if answers["steps"].strip() else None,
            cfg=number(answers["cfg"], "cfg") if answers["cfg"].strip() else None,
            sampler=answers["sampler"] or None,
            size=size,
            seed=whole(answers["seed"], "a seed", 2**63 - 1, 0),
            weight=number(answers["weight"], "a weight"),
            device=answers["device"],
        )


def _line(request: PreviewRequest, result: PreviewResult) -> str:
    from assetmgr.operations.preview.job import unheeded

    outcome = result.outcome
    failed = [check.name for check in outcome.checks if not check.ok]
    said = [f"{outcome.verdict} in {outcome.seconds:.1f} s", *failed, *unheeded(request, outcome)]
    return ", ".join(said)
