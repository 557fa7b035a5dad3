"""`assetmgr lineage show` and `assetmgr lineage explain`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import click

from assetmgr.cli.library import family_lines
from assetmgr.cli.options import Session, common_options
from assetmgr.operations.explain import (
    ExplainRequest,
    Ingredient,
    Part,
    Recovery,
    Unexplained,
    explain_checkpoint,
)
from assetmgr.operations.explain_candidates import Candidate
from assetmgr.operations.explain_recipe import making_of, write_recipe
from assetmgr.operations.explain_report import Making, record_recovery, recovery_json
from assetmgr.operations.failures import Failure
from assetmgr.text import plain, size
from assetmgr.workspace import Workspace
from converters.recovery.explanation import Certainty

_SAME = 3
"""Candidates that hold the same and are named."""
_VAGUE = 0.45
"""An unknown share from which on the weight of what is nearest says little."""


@click.group(epilog="Example: assetmgr lineage explain blend.safetensors")
def lineage() -> None:
    """Say what assets were made of."""


@lineage.command(epilog="Example: assetmgr lineage show '#12'")
@click.argument("asset")
@common_options
@click.pass_obj
def show(session: Session, asset: str) -> int:
    """Show what an asset was made of, as it was recorded, and what was made of it."""
    with Workspace.open() as workspace:
        found = workspace.library.find(asset)
        tree = workspace.library.lineage(found.id)
    if session.as_json:
        document = {"asset": found.id, "name": found.name, **asdict(tree), "errors": []}
        session.output.document(document)
        return session.status
    session.output.line(f"#{found.id}  {plain(found.name)}")
    lines = list(family_lines(tree))
    session.output.fields(lines, indent="  ")
    if not lines:
        session.output.line("  nothing is recorded; `lineage explain` may find it out")
    return session.status


@lineage.command(epilog="Example: assetmgr lineage explain blend.safetensors --recipe blend.toml")
@click.argument("checkpoint")
@click.option("--among", metavar="QUERY", help="Candidates: assets that match, as in `list`.")
@click.option(
    "--with",
    "files",
    multiple=True,
    type=click.Path(exists=True),
    metavar="FILE|FOLDER",
    help="More candidates, in the library or not.",
)
@click.option(
    "--recipe", type=click.Path(path_type=Path), help="Write the recipe for `merge replay` here."
)
@click.option("--overwrite", is_flag=True, help="Replace a recipe that exists.")
@click.option("--record", is_flag=True, help="Keep it in the lineage, marked as inferred.")
@common_options
@click.pass_obj
def explain(
    session: Session,
    checkpoint: str,
    among: str | None,
    files: tuple[str, ...],
    recipe: Path | None,
    overwrite: bool,
    record: bool,
) -> int:
    """Find out what a checkpoint was merged of.

    A sample of its weights is compared with the checkpoints and adapters of its family in the
    library: weighted sums, added differences, merged LoRAs and all mixtures of these are solved for
    their weights, for each component and, where needed, each block. What is left over tells how
    sure that is. Nothing is recorded without --record.
    """
    request = ExplainRequest(checkpoint, among, files)
    with Workspace.open() as workspace, session.progress() as progress:
        found = explain_checkpoint(workspace, request, progress)
        making = making_of(workspace, found, progress, pinned=recipe is not None)
        if recipe is not None:
            write_recipe(making, recipe, overwrite=overwrite)
        if record and found.is_told:
            record_recovery(workspace, found)
    if not session.as_json:
        _print(session, found, making)
    if not found.is_told:
        cause = "none of the candidates explains it"
        session.fail(Failure.of(Unexplained(cause, path=found.subject.path, hint=_hint(found))))
    if session.as_json:
        document = recovery_json(found, making, recorded=record and found.is_told)
        session.output.document({**document, "errors": session.errors()})
    return session.status


def _hint(found: Recovery) -> str:
    counts = f"{found.models} models and {found.adapters} adapters were compared"
    return f"{counts}; scan or name those it may be made of"


def _print(session: Session, found: Recovery, making: Making) -> None:
    out = session.output
    out.line(f"{plain(str(found.subject.path))}  {_TOLD[found.certainty]}")
    out.fields([(part.name, _part(part)) for part in found.parts], indent="  ")
    for part in found.parts:
        for slot_line in _blocks(part):
            out.line(f"    {slot_line}")
        for rival in part.rivals:
            told = _sum((weight, _called(each)) for each, weight in rival)
            out.line(f"  as good for the {part.name}: {plain(told)}")
    for copy in found.copies:
        out.line(f"  the same, but for rounding, as {plain(_called(copy))}")
    for command in making.commands:
        out.line(f"  {plain(command)}")
    for each in found.left_out:
        session.warn(f"{each.candidate.path}: not compared: {each.reason}")
    compared = f"{found.models} models and {found.adapters} adapters"
    out.line(f"  compared with {compared}, {size(found.nbytes)} read, {found.seconds:.1f} s")


_TOLD = {
    Certainty.EXACT: "is explained exactly",
    Certainty.ROUNDING: "is explained within rounding",
    Certainty.PARTIAL: "is explained in part",
    Certainty.NONE: "is not explained",
}


def _part(part: Part) -> str:
    is_vague = not part.is_told and part.explanation.unknown >= _VAGUE
    terms = ((1 if is_vague else each.weight, _ingredient(each)) for each in part.ingredients)
    told = _sum(terms, part)
    return f"{told or 'no model is related to it'}   {_certainty(part)}"


def _sum(terms: Iterable[tuple[float, str]], part: Part | None = None) -> str:
    """Weighted terms; the weights of blocks are about what is shown."""
    about = "~" if part and any(each.blocks for each in part.ingredients) else ""
    text = ""
    for weight, name in terms:
        sign = (" - " if weight < 0 else " + ") if text else "-" * (weight < 0)
        factor = "" if abs(weight) == 1 and not about else f"{about}{abs(weight):.4g} × "
        text += f"{sign}{factor}{name}"
    return text


def _ingredient(each: Ingredient) -> str:
    averages = " (EMA)" if each.component.endswith("_ema") else ""
    named = ", ".join(_called(same) for same in each.same[:_SAME])
    more = f" and {len(each.same) - _SAME} more" if len(each.same) > _SAME else ""
    same = f" (the same in {named}{more})" if each.same else ""
    return f"{_called(each.candidate)}{averages}{same}"


def _called(candidate: Candidate) -> str:
    number = "" if candidate.asset is None else f"#{candidate.asset} "
    return f"{number}{candidate.name}"


def _certainty(part: Part) -> str:
    found = part.explanation
    if part.identical:
        return "identical"
    match found.certainty:
        case Certainty.EXACT:
            return f"{_percent(found.equal)} of {found.values:,} values as stored"
        case Certainty.ROUNDING:
            times = found.residual / found.rounding if found.rounding else 0.0
            return f"within {found.precision} rounding ({times:.2g} × what is expected)"
        case Certainty.PARTIAL:
            share = _percent(found.explained or 0.0)
            return f"{share} of the change explained, {_rest(found.unknown)}"
        case _:
            return f"is nearest, {_rest(found.unknown)}" if part.ingredients else "unexplained"


def _rest(unknown: float) -> str:
    return f"an unknown share of {unknown:.2g} remains" if unknown else "the rest is unknown"


def _percent(share: float) -> str:
    """Never 100 % for what is less."""
    return "all" if share == 1 else f"{min(share, 0.9999):.2%}"


def _blocks(part: Part) -> Iterator[str]:
    """The weights of each block, an ingredient a line."""
    for each in part.ingredients:
        if each.blocks:
            told = " ".join(f"{slot} {weight:g}" for slot, weight in each.blocks.items())
            yield f"{plain(_called(each.candidate))}: {told}"
