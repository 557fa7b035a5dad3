"""Merges: adapters into a checkpoint or into one adapter, checkpoints with each other, and again.

Everything here blocks and is called in threads; operations are imported when first used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from converters.errors import AssetmgrError, BadValue, FileMissing
from tui.answers import (
    beside,
    dtype_field,
    file,
    number,
    place_of,
    problem,
    size_of_lora,
    title_of,
)
from tui.forms import Answers, Field, Form, Planned, same
from tui.sections import Section, named, text
from tui.text import count, size

if TYPE_CHECKING:
    from assetmgr.operations.inspect import Inspection
    from assetmgr.operations.merge.adapters import MergePlan, MergeRequest
    from assetmgr.operations.merge.checkpoints import CheckpointMergePlan, CheckpointMergeRequest
    from assetmgr.operations.merge.weighted_adapters import WeightedAdapter
    from assetmgr.workspace import Workspace
    from converters.progress import Progress
    from registry.records import Asset

_ONE_ADAPTER = ("", "one adapter, no checkpoint")
_LONGEST_NAME = 120
_BLOCKS = "ALL, NONE, MIDD … or numbers"


class Merging:
    """Forms of merges over assets of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def form(self, assets: Sequence[Asset]) -> Form:
        """The merge that a choice of assets suggests. Raises BadValue, FileMissing."""
        from tui.inversions import Inversions

        if any(asset.kind == "embedding" for asset in assets):
            return Inversions(self._workspace).merge_form(assets)
        adapters = [asset for asset in assets if asset.kind != "checkpoint"]
        checkpoints = [asset for asset in assets if asset.kind == "checkpoint"]
        if adapters and len(checkpoints) > 1:
            raise BadValue("adapters go into one checkpoint; mark no more than one")
        if adapters:
            return self._adapters_form(adapters, checkpoints)
        if len(checkpoints) > 1:
            return self._checkpoints_form(checkpoints)
        return self._replay_form(checkpoints[0])

    # ---- adapters

    def _adapters_form(self, adapters: Sequence[Asset], checkpoints: Sequence[Asset]) -> Form:
        bases = checkpoints or self._bases(adapters[0])
        options = [(place_of(base), base.name) for base in bases]
        if len(adapters) > 1:
            options.append(_ONE_ADAPTER)
        if not options:
            family = _family(adapters[0])
            raise FileMissing(f"the library has no {family} checkpoint to merge into")
        weights = (field for n, a in enumerate(adapters) for field in _weight_fields(n, a))
        proposal = partial(_proposal, bases, adapters)
        fields = (
            Field("base", "into", options[0][0], tuple(options)),
            *weights,
            dtype_field(),
            Field("partial", "unused keys", "no", (("no", "are an error"), ("yes", "are left"))),
            Field("size", "rank of the sum", "", empty="for one adapter: 32, or 95% of the energy"),
            Field("output", "file", proposal({"base": options[0][0]}), proposal=proposal),
        )
        shown = fields if len(adapters) > 1 else tuple(f for f in fields if f.name != "size")
        plan = partial(self._plan_adapters, adapters)
        return Form(title_of("Merge", adapters), shown, plan, "Merge")

    def _bases(self, adapter: Asset) -> Sequence[Asset]:
        return self._workspace.library.bases(_family(adapter))

    def _plan_adapters(self, adapters: Sequence[Asset], answers: Answers) -> Planned:
        chosen = tuple(_weighted(adapter, n, answers) for n, adapter in enumerate(adapters))
        if answers["base"] == _ONE_ADAPTER[0]:
            return self._plan_join(chosen, answers)
        return self._plan_merge(chosen, answers)

    def _plan_merge(self, chosen: tuple[WeightedAdapter, ...], answers: Answers) -> Planned:
        from assetmgr.operations.inspect import inspect_paths
        from assetmgr.operations.merge.adapters import MergeRequest, plan_merge_adapters

        partly = answers["partial"] == "yes"
        output = file(answers["output"])
        request = MergeRequest(answers["base"], chosen, output, answers["dtype"], partial=partly)
        places = [each.reference for each in chosen]
        fits = _compatibility_section(list(inspect_paths(places, checkpoint=answers["base"])))
        try:
            plan = plan_merge_adapters(self._workspace, request)
        except AssetmgrError as error:
            return Planned("", (fits, problem(error)), None)
        title = f"Merge into {Path(answers['base']).name}"
        return Planned(title, (fits, *_merge_sections(plan, request)), partial(self._merge, plan))

    def _merge(self, plan: MergePlan, progress: Progress) -> str:
        from assetmgr.operations.merge.adapters import run_merge_adapters

        result = run_merge_adapters(self._workspace, plan, progress)
        changed = count(plan.changed, "tensor")
        return f"{plan.request.output.name}: {changed} changed in {result.seconds:.1f} s"

    def _plan_join(self, chosen: tuple[WeightedAdapter, ...], answers: Answers) -> Planned:
        from assetmgr.operations.merge.into_one import JoinRequest, plan_join, run_join

        if any(each.block_weights for each in chosen):
            raise BadValue("block weights are for merges into a checkpoint")
        output, wanted = file(answers["output"]), size_of_lora(answers["size"])
        request = JoinRequest(chosen, output, wanted, answers["dtype"])
        plan = plan_join(self._workspace, request)

        def work(progress: Progress, /) -> str:
            result = run_join(self._workspace, plan, progress)
            return f"{output.name}, {size(result.written.nbytes)}, misses {result.error:.1%}"

        rows = (
            ("target", text(output)),
            ("adapters", text(f"{len(chosen):,}")),
            ("modules", text(f"{len(plan.modules):,}")),
            ("ranks", text("those of all together" if wanted is None else "cut as asked for")),
            *(("note", text(note)) for note in plan.warnings),
        )
        return Planned(f"Sum of {len(chosen)} adapters", (Section("Plan", rows),), work)

    # ---- checkpoints

    def _checkpoints_form(self, checkpoints: Sequence[Asset]) -> Form:
        from converters.merge.checkpoints import METHODS

        fields = (
            Field("method", "method", next(iter(METHODS)), same(*METHODS)),
            Field("alpha", "alpha", "0.5", empty="0.5, or unet=0.5,vae=0,text_encoder=1"),
            Field("blocks", "block weights", "", empty="a number for each block"),
            Field("beta", "beta", "", empty="only of some methods"),
            Field("density", "density", "", empty="of ties: what is kept"),
            Field("drop", "drop", "", empty="of dare: what is dropped"),
            dtype_field(),
            Field("output", "file", _target(checkpoints)),
        )
        plan = partial(self._plan_checkpoints, checkpoints)
        return Form(title_of("Merge", checkpoints), fields, plan, "Merge")

    def _plan_checkpoints(self, checkpoints: Sequence[Asset], answers: Answers) -> Planned:
        from assetmgr.operations.convert.change import DTYPES
        from assetmgr.operations.merge.checkpoints import (
            CheckpointMergeRequest,
            parse_blocks,
            parse_weights,
            plan_merge_checkpoints,
        )
        from converters.merge.checkpoints.choice import MergeChoice, Weights

        given = parse_weights(answers["alpha"])
        choice = MergeChoice(
            answers["method"],
            alpha=Weights(given.default, given.components, parse_blocks(answers["blocks"])),
            beta=_optional(answers["beta"], "beta"),
            density=_optional(answers["density"], "density"),
            drop=_optional(answers["drop"], "drop"),
            dtype=DTYPES[answers["dtype"]],
        )
        models = tuple(place_of(asset) for asset in checkpoints)
        request = CheckpointMergeRequest(models, choice, file(answers["output"]))
        plan = plan_merge_checkpoints(self._workspace, request)
        letters = [(chr(65 + n), text(asset.name)) for n, asset in enumerate(checkpoints)]
        sections = (Section("Models", tuple(letters)), *_checkpoint_sections(plan))
        return Planned(f"Merge to {request.output.name}", sections, partial(self._mix, plan))

    def _mix(self, plan: CheckpointMergePlan, progress: Progress) -> str:
        from assetmgr.operations.merge.checkpoints import run_merge_checkpoints

        result = run_merge_checkpoints(self._workspace, plan, progress)
        return f"{plan.request.output.name} in {result.seconds:.1f} s"

    # ---- the same merge again

    def _replay_form(self, merged: Asset) -> Form:
        from assetmgr.operations.merge.recipe import RECIPE_KEY

        if RECIPE_KEY not in merged.metadata:
            raise BadValue(
                "mark what to merge into it", hint="space marks: adapters, or a second checkpoint"
            )
        fields = (Field("output", "file", beside(merged, ".again.safetensors")),)
        plan = partial(self._plan_replay, merged)
        return Form(title_of("Make again", [merged]), fields, plan, "Merge")

    def _plan_replay(self, merged: Asset, answers: Answers) -> Planned:
        from assetmgr.operations.merge.recipe import RECIPE_KEY
        from converters.writers.atomic import refuse_existing

        output = file(answers["output"])
        refuse_existing(output, overwrite=False)
        facts = (
            ("target", text(output)),
            ("", text("its models are found by their hashes", "$dim")),
        )
        recipe = Section("Its recipe", (("", text(merged.metadata[RECIPE_KEY])),))
        work = partial(self._replay, place_of(merged), output)
        return Planned(f"Merge of {merged.name} again", (Section("", facts), recipe), work)

    def _replay(self, reference: str, output: Path, progress: Progress) -> str:
        from assetmgr.operations.merge.checkpoints import plan_merge_checkpoints
        from assetmgr.operations.merge.replay import request_of_replay

        request: CheckpointMergeRequest = request_of_replay(
            self._workspace, reference, output, progress=progress
        )
        return self._mix(plan_merge_checkpoints(self._workspace, request), progress)


def _family(adapter: Asset) -> str:
    return "sd-1" if adapter.base == "unknown" else adapter.base


def _proposal(bases: Sequence[Asset], adapters: Sequence[Asset], answers: Answers) -> str:
    """The file of what the adapters and the chosen base make."""
    chosen = [base for base in bases if place_of(base) == answers["base"]]
    return _target([*chosen, *adapters])


def _target(assets: Sequence[Asset]) -> str:
    """A file beside the first of them that is named for all."""
    stem = "+".join(asset.name for asset in assets)[:_LONGEST_NAME].replace("/", "_")
    return str(Path(place_of(assets[0])).with_name(f"{stem}.safetensors"))


def _weight_fields(position: int, adapter: Asset) -> Iterator[Field]:
    yield Field(f"weight {position}", f"⨯ {adapter.name}", "1", empty="0.8, or 0.8,0.5")
    yield Field(f"blocks {position}", "  its blocks", "", empty=_BLOCKS)


def _weighted(adapter: Asset, position: int, answers: Answers) -> WeightedAdapter:
    from assetmgr.operations.merge.weighted_adapters import WeightedAdapter, parse_weight

    blocks = answers[f"blocks {position}"].strip() or None
    return WeightedAdapter(place_of(adapter), *parse_weight(answers[f"weight {position}"]), blocks)


def _optional(answer: str, what: str) -> float | None:
    return number(answer, what) if answer.strip() else None


def _compatibility_section(found: Sequence[Inspection]) -> Section:
    marks = {True: ("✓", "$success"), False: ("✗", "$error"), None: ("?", "$warning")}
    rows = []
    for inspection in found:
        fit = inspection.compatibility
        reason = "cannot be opened" if fit is None else fit.reason
        mark, style = marks[False if fit is None else fit.fits]
        rows.append((inspection.path.stem, text(f"{mark} ", style) + text(reason)))
    return Section("Fits", tuple(rows))


def _merge_sections(plan: MergePlan, request: MergeRequest) -> Iterator[Section]:
    rows = (
        ("target", text(request.output)),
        ("changes", text(f"{plan.changed:,} of {count(len(plan.state), 'tensor')}")),
        ("size", text(f"{size(plan.nbytes)}   {plan.nbytes:,} bytes")),
    )
    yield Section("Plan", rows)
    yield from named("Warnings", plan.warnings, "$warning")


def _checkpoint_sections(plan: CheckpointMergePlan) -> Iterator[Section]:
    rows = (
        ("target", text(plan.request.output)),
        ("merged", text(count(len(plan.merge.merged), "tensor"))),
        ("size", text(size(plan.nbytes))),
    )
    yield Section("Plan", rows)
    yield from named("Warnings", plan.merge.warnings, "$warning")
