"""`assetmgr resize`."""

from __future__ import annotations

from pathlib import Path

import click

from assetmgr.cli import completion
from assetmgr.cli.extract_lora import PRECISIONS
from assetmgr.cli.options import Session, common_options, model_output
from assetmgr.operations.extract.resize import (
    ResizePlan,
    ResizeRequest,
    ResizeResult,
    plan_resize,
    run_resize,
)
from assetmgr.text import plain, size
from assetmgr.workspace import Workspace
from converters.merge.low_rank import Size


@click.command(
    epilog="Example: assetmgr resize style.safetensors --energy 0.95 -o small.safetensors"
)
@click.argument("adapter", shell_complete=completion.asset)
@click.option("--rank", type=int, help="Rank of every module; of a LoRA at most its own.")
@click.option("--energy", type=float, help="Share of each change's squared norm to keep.")
@click.option("--norm", type=float, help="Share of each change's Frobenius norm to keep.")
@model_output
@click.option(
    "--dtype", type=click.Choice(["keep", *PRECISIONS]), default="keep", help="Precision."
)
@click.option("--overwrite", is_flag=True, help="Replace a target that exists.")
@click.option("--dry-run", is_flag=True, help="Print the plan and do nothing.")
@common_options
@click.pass_obj
def resize(
    session: Session,
    adapter: str,
    rank: int | None,
    energy: float | None,
    norm: float | None,
    output: Path,
    dtype: str,
    overwrite: bool,
    dry_run: bool,
) -> int:
    """Give a LoRA a smaller rank, or the ranks that an energy needs.

    A LoCon, LoHa, LoKr or full difference becomes the LoRA nearest to it. What the truncation costs
    is stated for each module. Ranks of LoRAs never grow. Names become those of kohya's tools.
    """
    request = ResizeRequest(adapter, output, Size.of(rank, energy, norm), dtype, overwrite)
    with Workspace.open() as workspace, session.progress() as progress:
        plan = plan_resize(workspace, request)
        result = plan if dry_run else run_resize(workspace, plan, progress)
    for warning in result.warnings:
        session.warn(warning)
    return session.answer(result, _line)


def _line(result: ResizePlan | ResizeResult) -> str:
    if isinstance(result, ResizePlan):
        return f"-> {plain(str(result.request.output))}  {len(result.modules)} modules"
    target = plain(str(result.plan.request.output))
    count, nbytes = len(result.modules), size(result.written.nbytes)
    return f"-> {target}  {count} modules, {result.error:.2%} of the change missing, {nbytes}"
