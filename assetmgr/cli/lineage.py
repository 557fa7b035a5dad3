"""`assetmgr lineage show` and `assetmgr lineage explain`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from assetmgr.cli.library import family_lines
from assetmgr.cli.options import Session, common_options
from assetmgr.operations.explain.explanation import (
    ExplainRequest,
    Recovery,
    Unexplained,
    explain_checkpoint,
)
from assetmgr.operations.explain.recipe import making_of, write_recipe
from assetmgr.operations.explain.report import Making, record_recovery, recovery_json
from assetmgr.operations.explain.words import (
    TOLD,
    block_lines,
    called,
    compared,
    part_line,
    rival_lines,
)
from assetmgr.operations.failures import Failure
from assetmgr.text import plain, size
from assetmgr.workspace import Workspace


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
    return f"compared with {compared(found)}; scan or name those it may be made of"


def _print(session: Session, found: Recovery, making: Making) -> None:
    out = session.output
    out.line(f"{plain(str(found.subject.path))}  {TOLD[found.certainty]}")
    out.fields([(part.name, part_line(part)) for part in found.parts], indent="  ")
    for part in found.parts:
        for slot_line in block_lines(part):
            out.line(f"    {plain(slot_line)}")
        for line in rival_lines(part):
            out.line(f"  {plain(line)}")
    for copy in found.copies:
        out.line(f"  the same, but for rounding, as {plain(called(copy))}")
    for command in making.commands:
        out.line(f"  {plain(command)}")
    for each in found.left_out:
        session.warn(f"{each.candidate.path}: not compared: {each.reason}")
    out.line(f"  compared with {compared(found)}, {size(found.nbytes)} read, {found.seconds:.1f} s")
