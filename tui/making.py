"""New files out of single assets: the forms of conversions, extractions and resizing.

Everything here blocks and is called in threads; operations are imported when first used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from converters.errors import BadValue
from tui.answers import (
    beside,
    dtype_field,
    each,
    file,
    folder,
    place_of,
    size_of_lora,
    title_of,
)
from tui.forms import Answers, Field, Form, Planned, same
from tui.sections import MOST_NAMED, Section, named, text
from tui.text import count, size

if TYPE_CHECKING:
    from textual.content import Content

    from assetmgr.operations.convert.plan import ConvertPlan
    from assetmgr.operations.convert.run import ConvertResult
    from assetmgr.operations.failures import Failure
    from assetmgr.workspace import Workspace
    from converters.progress import Progress
    from registry.records import Asset

_PARTS = {
    "vae": ("vae", "VAE"),
    "unet": ("unet", "UNet"),
    "text_encoder": ("text_encoder", "text encoder"),
    "text_encoder_2": ("text_encoder_2", "second text encoder"),
}
_DIFFERENCES = (
    ("lora", "LoRA: the difference to the other"),
    ("full", "all that differs, as an adapter"),
)
_UNTRUNCATED = "full"
_WITH_EMBEDDINGS = ("lora", "embedding")
_MOST_VAES = 40


class Making:
    """Forms over assets of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    # ---- conversions

    def convert_form(self, assets: Sequence[Asset]) -> Form:
        """What assets can become."""
        from assetmgr.operations.convert.change import QUANTISED
        from assetmgr.operations.convert.formats import FORMATS
        from converters.transform.layout import LAYOUTS

        whole_models = all(asset.kind == "checkpoint" for asset in assets)
        fields = (
            Field("to", "format", "safetensors", same(*FORMATS)),
            dtype_field(QUANTISED),
            Field("ema", "EMA", "keep", same("keep", "drop", "use")),
            Field("prune", "prune", "no", same("no", "yes")),
            self._vae_field() if whole_models else Field("layout", "names", "", _keep(LAYOUTS)),
            Field("folder", "folder", "", empty="that of the source"),
        )
        plan = partial(self._plan_convert, assets)
        return Form(title_of("Convert", assets), fields, plan, "Convert")

    def _vae_field(self) -> Field:
        found = self._workspace.library.assets("kind:vae -is:missing", limit=_MOST_VAES)
        options = [(asset.path, asset.name) for asset in found if asset.path is not None]
        return Field("vae", "VAE", "", (("", "keep"), *options))

    def _plan_convert(self, assets: Sequence[Asset], answers: Answers) -> Planned:
        from assetmgr.operations.convert.change import Change
        from assetmgr.operations.convert.plan import ConvertRequest, plan_convert
        from converters.transform.ema import EmaChoice

        vae = answers.get("vae")
        change = Change(
            answers["dtype"],
            EmaChoice(answers["ema"]),
            prune=answers["prune"] == "yes",
            vae=Path(vae) if vae else None,
            layout=answers.get("layout") or None,
        )
        request = ConvertRequest(
            tuple(map(place_of, assets)),
            output_dir=folder(answers["folder"]),
            change=change,
            to=answers["to"],
        )
        return self._conversion(title_of("Conversion of", assets), list(plan_convert(request)))

    def _conversion(self, title: str, found: Sequence[ConvertPlan | Failure]) -> Planned:
        from assetmgr.operations.convert.plan import ConvertPlan

        plans = [plan for plan in found if isinstance(plan, ConvertPlan) and not plan.done_before]
        done = [str(p.target) for p in found if isinstance(p, ConvertPlan) and p.done_before]
        failures = [each for each in found if not isinstance(each, ConvertPlan)]
        problems = [f"{each.path}: {each.error}" for each in failures]
        sections = (
            *_conversion_sections(plans),
            *named("Made before", done, "$dim"),
            *named("Cannot be done", problems, "$error"),
        )
        work = partial(self._convert, plans) if plans else None
        return Planned(title, sections, work)

    def _convert(self, plans: Sequence[ConvertPlan], progress: Progress) -> str:
        """Write the planned files and add them to the library."""
        from assetmgr.operations.convert.run import run_convert

        results: list[ConvertResult] = []
        _, failed = each(
            plans,
            lambda plan: results.append(run_convert(self._workspace, plan, progress)),
            progress,
        )
        nbytes = sum(result.written.nbytes for result in results)
        seconds = sum(result.seconds for result in results)
        name = plans[0].target.name if len(plans) == 1 else count(len(results), "file")
        return f"{name}, {size(nbytes)} in {seconds:.1f} s" + (
            f", {failed} failed" if failed else ""
        )

    # ---- extractions

    def extract_form(self, assets: Sequence[Asset]) -> Form:
        """What can be taken out of a checkpoint, an adapter, or the difference of two models."""
        from tui.inversions import Inversions

        first = assets[0]
        if len(assets) == 1 and first.kind in _WITH_EMBEDDINGS:
            return Inversions(self._workspace).extract_form(first)
        models = all(asset.kind == "checkpoint" for asset in assets)
        held = {part.name for part in first.components} if models else set()
        parts = [option for name, option in _PARTS.items() if name in held]
        if models and len(assets) == 2:
            parts = [*_DIFFERENCES, *parts]
        if not parts or len(assets) > 2:
            raise BadValue(
                "nothing can be taken out of this choice",
                hint="choose one checkpoint, or two for their difference",
            )
        fields = (
            Field("part", "take out", parts[0][0], tuple(parts)),
            *(_difference_fields() if len(assets) == 2 else ()),
            Field("output", "file", beside(first, ".{part}.safetensors")),
        )
        plan = partial(self._plan_extract, assets)
        return Form(title_of("Extract from", assets), fields, plan, "Extract")

    def _plan_extract(self, assets: Sequence[Asset], answers: Answers) -> Planned:
        from assetmgr.operations.convert.change import Change
        from assetmgr.operations.convert.plan import ConvertRequest, plan_convert

        part = answers["part"]
        output = file(answers["output"].replace("{part}", part))
        if part == _UNTRUNCATED:
            return self._plan_full(assets, output, answers)
        if part in dict(_DIFFERENCES):
            return self._plan_difference(assets, output, answers)
        request = ConvertRequest((place_of(assets[0]),), output, change=Change(extract=part))
        return self._conversion(f"{part} of {assets[0].name}", list(plan_convert(request)))

    def _plan_difference(self, assets: Sequence[Asset], output: Path, answers: Answers) -> Planned:
        from assetmgr.operations.extract.lora import ExtractLoraRequest, plan_extract_lora

        tuned, base = _tuned_first(assets, answers)
        wanted = size_of_lora(answers["rank"])
        if wanted is None:
            raise BadValue("how much is to be kept?", hint="32 is a rank, 95% an energy")
        request = ExtractLoraRequest(
            place_of(tuned),
            place_of(base),
            output,
            wanted,
            answers["conv"] == "yes",
            answers["precision"],
        )
        plan = plan_extract_lora(self._workspace, request)
        rows = _difference_rows(plan.sources, output, len(plan.extraction.modules), "modules")

        def work(progress: Progress, /) -> str:
            from assetmgr.operations.extract.lora import run_extract_lora

            result = run_extract_lora(self._workspace, plan, progress)
            return f"{output.name} in {result.seconds:.1f} s, misses {result.error:.1%}"

        return Planned(f"LoRA of {tuned.name}", (Section("", rows),), work)

    def _plan_full(self, assets: Sequence[Asset], output: Path, answers: Answers) -> Planned:
        from assetmgr.operations.extract.full import ExtractFullRequest, plan_extract_full

        tuned, base = _tuned_first(assets, answers)
        request = ExtractFullRequest(place_of(tuned), place_of(base), output, answers["precision"])
        plan = plan_extract_full(self._workspace, request)
        rows = _difference_rows(plan.sources, output, len(plan.full.state), "at most")
        left_out = named("Have no place in it", plan.full.left_out, "$warning")

        def work(progress: Progress, /) -> str:
            from assetmgr.operations.extract.full import run_extract_full

            result = run_extract_full(self._workspace, plan, progress)
            counts = f"{result.tensors:,} tensors differ, {result.unchanged:,} do not"
            return f"{output.name}: {counts}, {size(result.nbytes)}"

        return Planned(f"Difference of {tuned.name}", (Section("", rows), *left_out), work)

    # ---- other ranks

    def resize_form(self, assets: Sequence[Asset]) -> Form:
        """A LoRA of another rank."""
        (adapter,) = assets[:1]
        if len(assets) > 1 or adapter.kind != "lora":
            raise BadValue("one LoRA is given another rank", hint="choose a single LoRA")
        fields = (
            Field("size", "rank or energy", "95%", empty="32 is a rank, 95% an energy to keep"),
            dtype_field(),
            Field("output", "file", beside(adapter, ".small.safetensors")),
        )
        plan = partial(self._plan_resize, adapter)
        return Form(title_of("Resize", assets), fields, plan, "Resize")

    def _plan_resize(self, adapter: Asset, answers: Answers) -> Planned:
        from assetmgr.operations.extract.resize import ResizeRequest, plan_resize, run_resize

        wanted = size_of_lora(answers["size"])
        if wanted is None:
            raise BadValue("how much is to be kept?", hint="32 is a rank, 95% an energy")
        output = file(answers["output"])
        request = ResizeRequest(place_of(adapter), output, wanted, answers["dtype"])
        plan = plan_resize(self._workspace, request)

        def work(progress: Progress, /) -> str:
            result = run_resize(self._workspace, plan, progress)
            nbytes = size(result.written.nbytes)
            return f"{output.name}, {nbytes}, misses {result.error:.1%} of the change"

        rows = (
            ("source", text(plan.source)),
            ("target", text(output)),
            ("modules", text(f"{len(plan.modules):,}")),
            ("now", text(size(adapter.bytes))),
            *(("note", text(note)) for note in plan.warnings),
        )
        return Planned(f"Resizing of {adapter.name}", (Section("", rows),), work)


def _difference_fields() -> tuple[Field, ...]:
    return (
        Field("tuned", "tuned is", "0", (("0", "the first"), ("1", "the second"))),
        Field("rank", "rank or energy", "32", empty="of a LoRA: 32 is a rank, 95% an energy"),
        Field("conv", "convolutions", "no", (("no", "are left out"), ("yes", "of the UNet too"))),
        Field("precision", "precision", "fp16", same("fp16", "bf16", "fp32")),
    )


def _tuned_first(assets: Sequence[Asset], answers: Answers) -> Sequence[Asset]:
    return assets if answers["tuned"] == "0" else assets[::-1]


def _difference_rows(
    sources: tuple[Path, Path], output: Path, count: int, what: str
) -> tuple[tuple[str, Content], ...]:
    return (
        ("tuned", text(sources[0])),
        ("base", text(sources[1])),
        ("target", text(output)),
        (what, text(f"{count:,}" if what == "modules" else f"{count:,} tensors")),
    )


def _keep(words: Sequence[str]) -> tuple[tuple[str, str], ...]:
    return (("", "keep"), *same(*words))


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
