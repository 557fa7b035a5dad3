"""What a checkpoint was merged of: the form of the question, and the page of the answer.

Everything here blocks and is called in threads; operations are imported when first used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from converters.errors import BadValue, FileMissing, NotAvailable
from tui.answers import file, place_of, title_of
from tui.forms import Answers, Field, Form, Planned, Told, same
from tui.sections import Section, named, text
from tui.text import count, size

if TYPE_CHECKING:
    from assetmgr.operations.explain.explanation import ExplainRequest, Recovery
    from assetmgr.operations.explain.report import Making
    from assetmgr.workspace import Workspace
    from converters.progress import Progress
    from registry.records import Asset

_KINDS = ("checkpoint", "diffusion-model")


class Explaining:
    """The form over one checkpoint of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def form(self, assets: Sequence[Asset]) -> Form:
        """Which files to compare with, and what to keep of the answer. Raises BadValue."""
        (asset,) = assets[:1]
        if len(assets) > 1 or asset.kind not in _KINDS:
            raise BadValue("one checkpoint is explained", hint="choose a single checkpoint")
        fields = (
            Field("among", "compare with", "", empty="its family; or a filter, as tag:mine"),
            Field("files", "files too", "", empty="a file or folder, in the library or not"),
            Field("record", "keep in lineage", "no", same("no", "yes")),
            Field("recipe", "write recipe", "", empty="no; or a file, as blend.toml"),
        )
        plan = partial(self._plan, asset)
        return Form(title_of("What was merged into", assets), fields, plan, "Compare")

    def _plan(self, asset: Asset, answers: Answers) -> Planned:
        from assetmgr.operations.explain.explanation import ExplainRequest, candidates_of
        from converters.writers.atomic import refuse_existing

        among, more = answers["among"].strip() or None, answers["files"].strip()
        files = (str(_existing(more)),) if more else ()
        recipe = file(answers["recipe"]) if answers["recipe"].strip() else None
        if recipe is not None:
            refuse_existing(recipe, overwrite=False)
        request = ExplainRequest(place_of(asset), among, files)
        found = candidates_of(self._workspace, request)
        if not found:
            raise NotAvailable("nothing matches that it could be made of", hint="scan more folders")
        adapters = sum(each.is_adapter for each in found)
        rows = (
            ("models", text(f"{len(found) - adapters:,}")),
            ("adapters", text(f"{adapters:,}, if models alone do not explain it")),
            ("", text("a sample of the weights is read; nothing is changed", "$dim")),
        )
        answer: list[Told] = []
        work = partial(self._explain, request, recipe, answers["record"] == "yes", answer)
        title = f"What was merged into {asset.name}"
        return Planned(title, (Section("", rows),), work, told=lambda: answer[-1])

    def _explain(
        self,
        request: ExplainRequest,
        recipe: Path | None,
        is_kept: bool,
        answer: list[Told],
        progress: Progress,
    ) -> str:
        from assetmgr.operations.explain.explanation import explain_checkpoint
        from assetmgr.operations.explain.recipe import making_of, write_recipe
        from assetmgr.operations.explain.report import record_recovery
        from assetmgr.operations.explain.words import TOLD

        found = explain_checkpoint(self._workspace, request, progress)
        making = making_of(self._workspace, found, progress, pinned=recipe is not None)
        if recipe is not None:
            write_recipe(making, recipe, overwrite=False)
        if is_kept and found.is_told:
            record_recovery(self._workspace, found)
        verdict = TOLD[found.certainty]
        answer.append(Told(f"{found.subject.path.name} {verdict}", tuple(_sections(found, making))))
        return verdict


def _existing(answer: str) -> Path:
    path = Path(answer).expanduser()
    if not path.exists():
        raise FileMissing("is not there", path=path)
    return path


def _sections(found: Recovery, making: Making) -> Iterator[Section]:
    from assetmgr.operations.explain.words import (
        block_lines,
        called,
        compared,
        part_line,
        rival_lines,
    )

    yield Section("Made of", tuple((part.name, text(part_line(part))) for part in found.parts))
    yield from named(
        "Weights of blocks", [line for part in found.parts for line in block_lines(part)]
    )
    yield from named("Also possible", [line for part in found.parts for line in rival_lines(part)])
    yield from named("The same, but for rounding, as", [called(copy) for copy in found.copies])
    yield from named("To make it again", making.commands)
    yield from named("No recipe", [making.recipe_problem] if making.recipe_problem else [], "$dim")
    rows = (
        ("compared", text(compared(found))),
        ("read", text(f"{size(found.nbytes)} in {found.seconds:.1f} s")),
    )
    yield Section("How", rows)
    left = [f"{each.candidate.path}: {each.reason}" for each in found.left_out]
    yield from named(f"Not compared: {count(len(left), 'file')}", left, "$warning")
