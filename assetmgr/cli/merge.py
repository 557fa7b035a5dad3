"""`assetmgr merge adapters`."""

from __future__ import annotations

from pathlib import Path

import click

from assetmgr.cli.merge_checkpoints import checkpoints, replay
from assetmgr.cli.options import Session, common_options
from assetmgr.operations.change import DTYPES
from assetmgr.operations.merge import (
    MergePlan,
    MergeRequest,
    parse_adapter,
    plan_merge_adapters,
    run_merge_adapters,
)
from assetmgr.text import plain, size
from assetmgr.workspace import Workspace


@click.group(
    epilog="Example: assetmgr merge adapters base.ckpt style.safetensors -o out.safetensors"
)
def merge() -> None:
    """Merge adapters into a checkpoint, or checkpoints."""


merge.add_command(checkpoints)
merge.add_command(replay)


@merge.command(
    epilog="Example: assetmgr merge adapters base.ckpt style.safetensors=0.8,0.5 -o out.safetensors"
)
@click.argument("checkpoint")
@click.argument("adapters", nargs=-1, required=True, metavar="ADAPTER[=WEIGHT[,TE_WEIGHT]]...")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Target.")
@click.option("--dtype", type=click.Choice(list(DTYPES)), default="keep", help="Precision.")
@click.option("--partial", is_flag=True, help="Allow adapter keys that find no place.")
@click.option("--overwrite", is_flag=True, help="Replace a target that exists.")
@click.option("--dry-run", is_flag=True, help="Print the plan and do nothing.")
@common_options
@click.pass_obj
def adapters(
    session: Session,
    checkpoint: str,
    adapters: tuple[str, ...],
    output: Path,
    dtype: str,
    partial: bool,
    overwrite: bool,
    dry_run: bool,
) -> int:
    """Merge LoRAs and LoCons into a checkpoint.

    The second weight is that of the text encoder; without it the first serves for both. Assets are
    named by path, #ID, hash or name. A key that finds no place is an error unless --partial.
    """
    chosen = tuple(parse_adapter(text) for text in adapters)
    request = MergeRequest(checkpoint, chosen, output, dtype, partial, overwrite)
    with Workspace.open() as workspace, session.progress() as progress:
        plan = plan_merge_adapters(workspace, request)
        result = plan if dry_run else run_merge_adapters(workspace, plan, progress)
    for warning in plan.warnings:
        session.warn(warning)
    if session.as_json:
        session.output.document(result.to_json())
    else:
        _print(session, plan, result.nbytes)
    return session.status


def _print(session: Session, plan: MergePlan, nbytes: int) -> None:
    out = session.output
    for report in plan.reports:
        unused = f", {len(report.unused)} keys unused" if report.unused else ""
        kinds = ", ".join(report.algorithm)
        out.line(f"{plain(report.name)}  {kinds}: {report.applied} modules applied{unused}")
    target = plain(str(plan.request.output))
    out.line(f"-> {target}  {plan.changed} of {len(plan.state)} tensors changed, {size(nbytes)}")
