"""`assetmgr extract full`."""

from __future__ import annotations

from pathlib import Path

import click

from assetmgr.cli import completion
from assetmgr.cli.extract_lora import PRECISIONS
from assetmgr.cli.options import Session, common_options, model_output
from assetmgr.operations.extract.full import (
    ExtractFullPlan,
    ExtractFullRequest,
    ExtractFullResult,
    plan_extract_full,
    run_extract_full,
)
from assetmgr.text import plain, size
from assetmgr.workspace import Workspace


@click.command(
    epilog="Example: assetmgr extract full tuned.safetensors base.safetensors -o diff.safetensors"
)
@click.argument("tuned", shell_complete=completion.asset)
@click.argument("base", shell_complete=completion.asset)
@model_output
@click.option("--dtype", type=click.Choice(PRECISIONS), default="fp16", help="Precision.")
@click.option("--overwrite", is_flag=True, help="Replace a target that exists.")
@click.option("--dry-run", is_flag=True, help="Print the plan and do nothing.")
@common_options
@click.pass_obj
def full(
    session: Session,
    tuned: str,
    base: str,
    output: Path,
    dtype: str,
    overwrite: bool,
    dry_run: bool,
) -> int:
    """Extract the full difference: what every layer, bias and norm of TUNED differs in from BASE.

    Merged into BASE with weight 1 it gives TUNED again, but for rounding and for the VAE. It is an
    adapter of LyCORIS's algorithm `full`.
    """
    request = ExtractFullRequest(tuned, base, output, dtype, overwrite)
    with Workspace.open() as workspace, session.progress() as progress:
        plan = plan_extract_full(workspace, request)
        result = plan if dry_run else run_extract_full(workspace, plan, progress)
    if plan.full.left_out:
        some = ", ".join(plan.full.left_out[:3]) + ", …" * (len(plan.full.left_out) > 3)
        session.warn(f"{len(plan.full.left_out)} tensors have no place in it: {some}")
    return session.answer(result, _line)


def _line(result: ExtractFullPlan | ExtractFullResult) -> str:
    if isinstance(result, ExtractFullPlan):
        target = plain(str(result.request.output))
        return f"-> {target}  at most {len(result.full.state)} tensors"
    target = plain(str(result.plan.request.output))
    counts = f"{result.tensors} tensors differ, {result.unchanged} do not"
    return f"-> {target}  {counts}, {size(result.nbytes)}"
