"""Embeddings out of files that hold several, and several into one file.

Everything here blocks and is called in threads; operations are imported when first used.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from converters.errors import BadValue
from tui.answers import beside, file, folder, place_of, title_of
from tui.forms import Answers, Field, Form, Planned, same
from tui.sections import Section, named, text
from tui.text import count, size

if TYPE_CHECKING:
    from assetmgr.operations.embeddings import EmbeddingPlan
    from assetmgr.workspace import Workspace
    from converters.progress import Progress
    from registry.records import Asset


class Inversions:
    """Forms over embeddings of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def extract_form(self, asset: Asset) -> Form:
        """Every embedding of an adapter or a file of several, in a file of its own."""
        from converters.embedding_forms import FORMS

        fields = (
            Field("per_encoder", "SDXL's halves", "no", (("no", "together"), ("yes", "apart"))),
            Field("form", "form", "", (("", "what most programs read"), *same(*FORMS))),
            Field("folder", "folder", "", empty="that of the source"),
            Field("rest", "the adapter", "", empty="stays; or a file for it without embeddings"),
        )
        plan = partial(self._plan_extract, asset)
        return Form(title_of("Embeddings in", [asset]), fields, plan, "Extract")

    def _plan_extract(self, asset: Asset, answers: Answers) -> Planned:
        from assetmgr.operations.embeddings import ExtractRequest, plan_extract

        rest = answers["rest"]
        request = ExtractRequest(
            place_of(asset),
            folder(answers["folder"]),
            answers["per_encoder"] == "yes",
            answers["form"] or None,
            file(rest) if rest.strip() else None,
        )
        return self._planned(f"Embeddings in {asset.name}", plan_extract(self._workspace, request))

    def merge_form(self, assets: Sequence[Asset]) -> Form:
        """Embeddings into one file, or into the adapter among them. Raises BadValue."""
        adapters = [asset for asset in assets if asset.kind == "lora"]
        embeddings = [asset for asset in assets if asset.kind == "embedding"]
        if len(adapters) > 1 or len(adapters) + len(embeddings) < len(assets):
            raise BadValue("embeddings go into one file, or into one adapter")
        if len(assets) < 2:
            raise BadValue("mark the embeddings that go into one file", hint="space marks")
        fields = (Field("output", "file", beside((*adapters, *embeddings)[0], ".all.safetensors")),)
        into = place_of(adapters[0]) if adapters else None
        plan = partial(self._plan_merge, embeddings, into)
        return Form(title_of("Put together", assets), fields, plan, "Merge")

    def _plan_merge(
        self, embeddings: Sequence[Asset], into: str | None, answers: Answers
    ) -> Planned:
        from assetmgr.operations.embeddings import MergeRequest, plan_merge

        output = file(answers["output"])
        request = MergeRequest(tuple(map(place_of, embeddings)), output, into)
        return self._planned(f"Merge to {output.name}", plan_merge(self._workspace, request))

    def _planned(self, title: str, plan: EmbeddingPlan) -> Planned:
        names = [
            f"{each.target}\n{', '.join(each.names) or 'the adapter without embeddings'}"
            for each in plan.files
        ]
        rows = (("files", text(f"{len(plan.files):,}")),)
        sections = (Section("", rows), *named("Written", names))
        return Planned(title, sections, partial(self._run, plan))

    def _run(self, plan: EmbeddingPlan, progress: Progress) -> str:
        from assetmgr.operations.embeddings import run_embeddings

        result = run_embeddings(self._workspace, plan, progress)
        nbytes = sum(each.nbytes for each in result.written)
        return f"{count(len(result.written), 'file')}, {size(nbytes)} in {result.seconds:.1f} s"
