"""`assetmgr merge adapters`."""

from __future__ import annotations

from pathlib import Path

import click

from assetmgr.cli import completion
from assetmgr.cli.embeddings import merge_embeddings
from assetmgr.cli.join_adapters import adapters_into_one
from assetmgr.cli.merge_checkpoints import checkpoints, overflow_option, replay
from assetmgr.cli.options import Session, common_options, model_output
from assetmgr.operations.convert.change import DTYPES
from assetmgr.operations.failures import Failure
from assetmgr.operations.merge.adapters import (
    DEVICES,
    MergePlan,
    MergeRequest,
    plan_merge_adapters,
    run_merge_adapters,
)
from assetmgr.operations.merge.check import (
    MergeCheck,
    check_merge,
    differs,
    require_checkable,
)
from assetmgr.operations.merge.weighted_adapters import parse_adapter, weigh_blocks
from assetmgr.text import plain, size
from assetmgr.workspace import Workspace
from converters.transform.cast import OnOverflow


@click.group(
    epilog="Example: assetmgr merge adapters base.ckpt style.safetensors -o out.safetensors"
)
def merge() -> None:
    """Merge adapters into a checkpoint, checkpoints with each other, or embeddings."""


merge.add_command(adapters_into_one)
merge.add_command(checkpoints)
merge.add_command(replay)
merge.add_command(merge_embeddings)


@merge.command(
    epilog="Example: assetmgr merge adapters base.ckpt style.safetensors=0.8,0.5 -o out.safetensors"
)
@click.argument("checkpoint", shell_complete=completion.asset)
@click.argument(
    "adapters",
    nargs=-1,
    required=True,
    metavar="ADAPTER[=WEIGHT[,TE_WEIGHT]]...",
    shell_complete=completion.asset,
)
@model_output
@click.option(
    "--block-weights",
    "block_weights",
    multiple=True,
    metavar="PRESET|N,N,...",
    help="Strength of each block; once for all adapters, or once for each.",
)
@click.option("--dtype", type=click.Choice(list(DTYPES)), default="keep", help="Precision.")
@click.option("--device", type=click.Choice(DEVICES), default="cpu", help="What computes.")
@overflow_option
@click.option("--partial", is_flag=True, help="Allow adapter keys that find no place.")
@click.option("--check", is_flag=True, help="Render the result, and compare: see above.")
@click.option("--overwrite", is_flag=True, help="Replace a target that exists.")
@click.option("--dry-run", is_flag=True, help="Print the plan and do nothing.")
@common_options
@click.pass_obj
def adapters(
    session: Session,
    checkpoint: str,
    adapters: tuple[str, ...],
    output: Path,
    block_weights: tuple[str, ...],
    dtype: str,
    device: str,
    on_overflow: str,
    partial: bool,
    check: bool,
    overwrite: bool,
    dry_run: bool,
) -> int:
    """Merge adapters of any algorithm, and linear hypernetworks, into a checkpoint.

    They are merged in the order given. The second weight is that of the text encoders; without it
    the first serves for all. Assets are named by path, #ID, hash or name. A key that finds no place
    is an error unless --partial. The folder of a pipeline becomes a single file, that of an SD3 or
    Flux pipeline such a folder again.

    Block weights are those of the A1111 extension: 26 or 17 numbers for SD1 and SD2 (BASE, IN, M00,
    OUT), 20 or 12 for SDXL, 26 for its refiner, 61 for Flux; or ALL, NONE or ALL0.5; for SD1
    and SD2 also INS, IND, INALL, MIDD, OUTD, OUTS or OUTALL. BASE is the text encoders; blocks
    that a shorter list does not name count 0.

    --check renders the checkpoint with the adapters in effect, and the merged file, with one seed,
    and fails where they differ by more than rounding explains.
    """
    chosen = weigh_blocks([parse_adapter(text) for text in adapters], block_weights)
    request = MergeRequest(
        checkpoint,
        chosen,
        output,
        dtype,
        partial,
        overwrite,
        device,
        OnOverflow(on_overflow),
    )
    with Workspace.open() as workspace, session.progress() as progress:
        plan = plan_merge_adapters(workspace, request)
        if check:
            require_checkable(workspace, plan)
        result = plan if dry_run else run_merge_adapters(workspace, plan, progress)
        seen = check_merge(workspace, plan, progress) if check and not dry_run else None
    for warning in result.warnings:
        session.warn(warning)
    if not session.as_json:
        _print(session, plan, result.nbytes)
        _print_check(session, seen)
    if seen is not None and not seen.ok:
        session.fail(Failure.of(differs(seen, output)))
    if session.as_json:
        told = {"check": seen.to_json() if seen else None, "errors": session.errors()}
        session.output.document({**result.to_json(), **told})
    return session.status


def _print_check(session: Session, seen: MergeCheck | None) -> None:
    if seen is None:
        return
    verdict = "ok" if seen.ok else "failed"
    figures = f"latents differ by {seen.value:.2g}, rounding explains {seen.threshold:.2g}"
    pixels = (
        f"pixels by {seen.difference.pixel_mean:.2g} of 1, at most {seen.difference.pixel_max:.2g}"
    )
    session.output.line(f"check {verdict}: {figures}; {pixels}")
    session.output.line(f"  {plain(seen.image)}")


def _print(session: Session, plan: MergePlan, nbytes: int) -> None:
    out = session.output
    for number, report in enumerate(plan.reports):
        unused = f", {len(report.unused)} keys unused" if report.unused else ""
        kinds = ", ".join(report.algorithm) or report.kind
        parts = ", ".join(f"{count} in {name}" for name, count in report.components.items())
        applied = f"{report.applied} modules applied ({parts})"
        out.line(f"{plain(report.name)}  {kinds}: {applied}{unused}{_measured(plan, number)}")
    target = plain(str(plan.request.output))
    out.line(f"-> {target}  {plan.changed} of {len(plan.state)} tensors changed, {size(nbytes)}")


def _measured(plan: MergePlan, number: int) -> str:
    """How large what an adapter changed is, once it was computed."""
    found = plan.merged.measured(number)
    return f", change {found.norm:.4g}" if found.largest_tensor is not None else ""
