"""New files out of assets: the forms of conversions, extractions and merges, and their plans.

Everything here blocks and is called in threads; operations are imported when first used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from converters.errors import AssetmgrError, BadValue, FileMissing
from tui.forms import Answers, Field, Form, Planned, same
from tui.sections import MOST_NAMED, Section, named, text
from tui.text import count, size

if TYPE_CHECKING:
    from assetmgr.operations.convert_plan import ConvertPlan
    from assetmgr.operations.failures import Failure
    from assetmgr.operations.inspect import Inspection
    from assetmgr.operations.merge import MergePlan, MergeRequest
    from assetmgr.operations.merge_checkpoints import CheckpointMergePlan
    from assetmgr.workspace import Workspace
    from converters.progress import Progress
    from registry.records import Asset

_KEEP = ("keep", "keep")
_PARTS = {
    "vae": ("vae", "VAE"),
    "unet": ("unet", "UNet"),
    "text_encoder": ("text_encoder", "text encoder"),
    "text_encoder_2": ("text_encoder_2", "second text encoder"),
}
_DIFFERENCE = ("lora", "LoRA: the difference to the other")


class Making:
    """Forms over assets of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    # ---- conversions

    def convert_form(self, assets: Sequence[Asset]) -> Form:
        """What assets can become."""
        from assetmgr.operations.change import DTYPES
        from assetmgr.operations.convert_formats import FORMATS

        fields = (
            Field("to", "format", "safetensors", same(*FORMATS)),
            Field("dtype", "precision", "keep", same(*DTYPES)),
            Field("ema", "EMA", "keep", same("keep", "drop", "use")),
            Field("prune", "prune", "no", same("no", "yes")),
            Field("folder", "folder", ""),
        )
        return Form(
            _title("Convert", assets), fields, partial(self._plan_convert, assets), "Convert"
        )

    def _plan_convert(self, assets: Sequence[Asset], answers: Answers) -> Planned:
        from assetmgr.operations.change import Change
        from assetmgr.operations.convert_plan import ConvertRequest, plan_convert
        from converters.transform.ema import EmaChoice

        prune = answers["prune"] == "yes"
        change = Change(answers["dtype"], EmaChoice(answers["ema"]), prune=prune)
        request = ConvertRequest(
            tuple(map(place_of, assets)),
            output_dir=_folder(answers["folder"]),
            change=change,
            to=answers["to"],
        )
        return self._conversion(_title("Conversion of", assets), list(plan_convert(request)))

    def _conversion(self, title: str, found: Sequence[ConvertPlan | Failure]) -> Planned:
        from assetmgr.operations.convert_plan import ConvertPlan

        plans = [plan for plan in found if isinstance(plan, ConvertPlan)]
        failures = [each for each in found if not isinstance(each, ConvertPlan)]
        problems = [f"{each.path}: {each.error}" for each in failures]
        sections = (*_conversion_sections(plans), *named("Cannot be done", problems, "$error"))
        work = partial(self._convert, plans) if plans else None
        return Planned(title, tuple(sections), work)

    def _convert(self, plans: Sequence[ConvertPlan], progress: Progress) -> str:
        """Write the planned files and add them to the library."""
        from assetmgr.operations.convert import run_convert

        results = [run_convert(self._workspace, plan, progress) for plan in plans]
        nbytes = sum(result.written.nbytes for result in results)
        seconds = sum(result.seconds for result in results)
        name = plans[0].target.name if len(plans) == 1 else count(len(plans), "file")
        return f"{name}, {size(nbytes)} in {seconds:.1f} s"

    # ---- extractions

    def extract_form(self, assets: Sequence[Asset]) -> Form:
        """What can be taken out of a checkpoint, or out of the difference of two."""
        first = assets[0]
        whole = all(asset.kind == "checkpoint" for asset in assets)
        held = {part.name for part in first.components} if whole else set()
        parts = [option for name, option in _PARTS.items() if name in held]
        if whole and len(assets) == 2:
            parts.insert(0, _DIFFERENCE)
        if not parts or len(assets) > 2:
            raise BadValue(
                "nothing can be taken out of this choice",
                hint="choose one checkpoint, or two for their difference",
            )
        fields = (
            Field("part", "take out", parts[0][0], tuple(parts)),
            Field("rank", "rank of a LoRA", "32"),
            Field(
                "output", "file", str(Path(place_of(first)).with_suffix("")) + ".{part}.safetensors"
            ),
        )
        return Form(
            _title("Extract from", assets), fields, partial(self._plan_extract, assets), "Extract"
        )

    def _plan_extract(self, assets: Sequence[Asset], answers: Answers) -> Planned:
        from assetmgr.operations.change import Change
        from assetmgr.operations.convert_plan import ConvertRequest, plan_convert

        part = answers["part"]
        output = Path(answers["output"].replace("{part}", part))
        if part == _DIFFERENCE[0]:
            return self._plan_difference(assets, _whole(answers["rank"], "a rank"), output)
        request = ConvertRequest((place_of(assets[0]),), output, change=Change(extract=part))
        return self._conversion(f"{part} of {assets[0].name}", list(plan_convert(request)))

    def _plan_difference(self, assets: Sequence[Asset], rank: int, output: Path) -> Planned:
        from assetmgr.operations.extract_lora import ExtractLoraRequest, plan_extract_lora
        from converters.merge.low_rank import Size

        tuned, base = assets
        request = ExtractLoraRequest(place_of(tuned), place_of(base), output, Size(rank=rank))
        plan = plan_extract_lora(self._workspace, request)
        rows = (
            ("tuned", text(plan.sources[0])),
            ("base", text(plan.sources[1])),
            ("target", text(output)),
            ("modules", text(f"{len(plan.extraction.modules):,}")),
        )

        def work(progress: Progress, /) -> str:
            from assetmgr.operations.extract_lora import run_extract_lora

            result = run_extract_lora(self._workspace, plan, progress)
            return f"{output.name} in {result.seconds:.1f} s, misses {result.error:.1%}"

        return Planned(f"LoRA of {tuned.name}", (Section("", rows),), work)

    # ---- merges

    def merge_form(self, assets: Sequence[Asset]) -> Form:
        """Adapters into a checkpoint, or checkpoints with each other."""
        adapters = [asset for asset in assets if asset.kind != "checkpoint"]
        checkpoints = [asset for asset in assets if asset.kind == "checkpoint"]
        if not adapters and len(checkpoints) > 1:
            return self._checkpoints_form(checkpoints)
        if not adapters:
            raise BadValue(
                "mark what to merge into it", hint="space marks: adapters, or a second checkpoint"
            )
        if len(checkpoints) > 1:
            raise BadValue("adapters go into one checkpoint; mark no more than one")
        bases = checkpoints or self._bases(adapters[0])
        options = tuple((place_of(base), base.name) for base in bases)
        weights = tuple(Field(f"weight {n}", f"⨯ {a.name}", "1") for n, a in enumerate(adapters))
        stem = "+".join([bases[0].name, *(adapter.name for adapter in adapters)])[:120]
        output = Path(place_of(bases[0])).with_name(f"{stem.replace('/', '_')}.safetensors")
        fields = (
            Field("base", "into", options[0][0], options),
            *weights,
            Field("blocks", "block weights", ""),
            Field("dtype", "precision", "keep", self._dtypes()),
            Field("partial", "unused keys", "no", (("no", "are an error"), ("yes", "are left"))),
            Field("output", "file", str(output)),
        )
        plan = partial(self._plan_merge, adapters)
        return Form(_title("Merge", adapters), fields, plan, "Merge")

    def _dtypes(self) -> tuple[tuple[str, str], ...]:
        from assetmgr.operations.change import DTYPES

        return same(*DTYPES)

    def _bases(self, adapter: Asset) -> Sequence[Asset]:
        family = "sd-1" if adapter.base == "unknown" else adapter.base
        found = self._workspace.library.bases(family)
        if not found:
            raise FileMissing(f"the library has no {family} checkpoint to merge into")
        return found

    def _plan_merge(self, adapters: Sequence[Asset], answers: Answers) -> Planned:
        from assetmgr.operations.inspect import inspect_paths
        from assetmgr.operations.merge import MergeRequest, WeightedAdapter, plan_merge_adapters

        places = [place_of(adapter) for adapter in adapters]
        chosen = tuple(
            WeightedAdapter(place, *_weights(answers[f"weight {n}"]), answers["blocks"] or None)
            for n, place in enumerate(places)
        )
        request = MergeRequest(
            answers["base"],
            chosen,
            Path(answers["output"]),
            answers["dtype"],
            partial=answers["partial"] == "yes",
        )
        fits = _compatibility_section(list(inspect_paths(places, checkpoint=answers["base"])))
        try:
            plan = plan_merge_adapters(self._workspace, request)
        except AssetmgrError as error:
            return Planned("", (fits, _problem(error)), None)
        title = f"Merge into {Path(answers['base']).name}"
        return Planned(title, (fits, *_merge_sections(plan, request)), partial(self._merge, plan))

    def _merge(self, plan: MergePlan, progress: Progress) -> str:
        from assetmgr.operations.merge import run_merge_adapters

        result = run_merge_adapters(self._workspace, plan, progress)
        changed = count(plan.changed, "tensor")
        return f"{plan.request.output.name}: {changed} changed in {result.seconds:.1f} s"

    def _checkpoints_form(self, checkpoints: Sequence[Asset]) -> Form:
        from converters.merge.checkpoints import METHODS

        stem = "+".join(asset.name for asset in checkpoints)[:120].replace("/", "_")
        output = Path(place_of(checkpoints[0])).with_name(f"{stem}.safetensors")
        fields = (
            Field("method", "method", next(iter(METHODS)), same(*METHODS)),
            Field("alpha", "alpha", "0.5"),
            Field("output", "file", str(output)),
        )
        plan = partial(self._plan_checkpoints, checkpoints)
        return Form(_title("Merge", checkpoints), fields, plan, "Merge")

    def _plan_checkpoints(self, checkpoints: Sequence[Asset], answers: Answers) -> Planned:
        from assetmgr.operations.merge_checkpoints import (
            CheckpointMergeRequest,
            parse_weights,
            plan_merge_checkpoints,
        )
        from converters.merge.checkpoints.choice import MergeChoice

        choice = MergeChoice(answers["method"], alpha=parse_weights(answers["alpha"]))
        models = tuple(place_of(asset) for asset in checkpoints)
        request = CheckpointMergeRequest(models, choice, Path(answers["output"]))
        plan = plan_merge_checkpoints(self._workspace, request)
        rows = (
            ("target", text(request.output)),
            ("merged", text(count(len(plan.merge.merged), "tensor"))),
            ("size", text(size(plan.nbytes))),
        )
        sections = (Section("", rows), *named("Warnings", plan.merge.warnings, "$warning"))
        return Planned(f"Merge to {request.output.name}", sections, partial(self._mix, plan))

    def _mix(self, plan: CheckpointMergePlan, progress: Progress) -> str:
        from assetmgr.operations.merge_checkpoints import run_merge_checkpoints

        result = run_merge_checkpoints(self._workspace, plan, progress)
        return f"{plan.request.output.name} in {result.seconds:.1f} s"


def place_of(asset: Asset) -> str:
    """Where an asset lies. Raises FileMissing."""
    if asset.path is None:
        raise FileMissing("all files of this asset are missing", path=asset.name)
    return asset.path


def _title(verb: str, assets: Sequence[Asset]) -> str:
    return f"{verb} {assets[0].name}" if len(assets) == 1 else f"{verb} {len(assets)} assets"


def _folder(answer: str) -> Path | None:
    return Path(answer).expanduser() if answer.strip() else None


def _whole(answer: str, what: str) -> int:
    if not answer.strip().isdecimal() or not 1 <= int(answer) <= 1 << 16:
        raise BadValue(f"{what} is a whole number, not {answer or 'nothing'}")
    return int(answer)


def _weights(answer: str) -> tuple[float, float | None]:
    """`0.8`, or with another weight for the text encoder `0.8,0.5`. Raises BadValue."""
    from assetmgr.operations.merge import parse_adapter

    found = parse_adapter(f"adapter={answer.strip()}")
    return found.weight, found.text_encoder


def _conversion_sections(plans: Sequence[ConvertPlan]) -> Iterator[Section]:
    if len(plans) == 1:
        yield from _plan_sections(plans[0])
        return
    if plans:
        total = sum(plan.nbytes for plan in plans)
        rows = [("files", text(f"{len(plans):,}")), ("size", text(size(total)))]
        rows += [("", text(plan.target)) for plan in plans[:MOST_NAMED]]
        yield Section("", tuple(rows))
    yield from named("Warnings", [w for plan in plans for w in plan.warnings], "$warning")


def _plan_sections(plan: ConvertPlan) -> Iterator[Section]:
    facts = (
        ("source", text(plan.source)),
        ("target", text(plan.target)),
        ("kind", text(f"{plan.identity.kind}, {plan.identity.base}")),
        ("tensors", text(f"{len(plan.state):,}")),
        ("size", text(f"{size(plan.nbytes)}   {plan.nbytes:,} bytes")),
    )
    yield Section("", facts)
    yield from named("Warnings", plan.warnings, "$warning")
    yield from named("Left out", plan.dropped)


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


def _problem(error: AssetmgrError) -> Section:
    hint = () if error.hint is None else (("", text(error.hint, "$dim")),)
    return Section("Cannot be done", (("", text(error, "$error")), *hint))
