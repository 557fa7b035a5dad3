"""`assetmgr merge adapters-into-one`."""

from __future__ import annotations

from pathlib import Path

import click

from assetmgr.cli import completion
from assetmgr.cli.extract_lora import PRECISIONS
from assetmgr.cli.options import Session, common_options, model_output
from assetmgr.operations.merge.into_one import (
    JoinPlan,
    JoinRequest,
    JoinResult,
    plan_join,
    run_join,
)
from assetmgr.operations.merge.weighted_adapters import parse_adapter
from assetmgr.text import plain, size
from assetmgr.workspace import Workspace
from converters.merge.low_rank import Size


@click.command(
    "adapters-into-one",
    epilog="Example: assetmgr merge adapters-into-one one.pt=0.8 two.pt -o both.safetensors",
)
@click.argument(
    "adapters",
    nargs=-1,
    required=True,
    metavar="ADAPTER[=WEIGHT[,TE_WEIGHT]]...",
    shell_complete=completion.asset,
)
@click.option("--rank", type=int, help="Rank of every module.")
@click.option("--energy", type=float, help="Share of each sum's squared norm to keep.")
@model_output
@click.option(
    "--dtype", type=click.Choice(["keep", *PRECISIONS]), default="keep", help="Precision."
)
@click.option("--overwrite", is_flag=True, help="Replace a target that exists.")
@click.option("--dry-run", is_flag=True, help="Print the plan and do nothing.")
@common_options
@click.pass_obj
def adapters_into_one(
    session: Session,
    adapters: tuple[str, ...],
    rank: int | None,
    energy: float | None,
    output: Path,
    dtype: str,
    overwrite: bool,
    dry_run: bool,
) -> int:
    """Add several adapters of one family up to one LoRA.

    Without --rank or --energy the sum of LoRAs is exact and its ranks are theirs together; other
    algorithms need one of the two. The second weight is that of the text encoders.
    """
    chosen = tuple(parse_adapter(text) for text in adapters)
    wanted = None if rank is None and energy is None else Size(rank, energy)
    request = JoinRequest(chosen, output, wanted, dtype, overwrite)
    with Workspace.open() as workspace, session.progress() as progress:
        plan = plan_join(workspace, request)
        result = plan if dry_run else run_join(workspace, plan, progress)
    for warning in result.warnings:
        session.warn(warning)
    return session.answer(result, _line)


def _line(result: JoinPlan | JoinResult) -> str:
    if isinstance(result, JoinPlan):
        return f"-> {plain(str(result.request.output))}  {len(result.modules)} modules"
    target = plain(str(result.plan.request.output))
    count, nbytes = len(result.modules), size(result.written.nbytes)
    return f"-> {target}  {count} modules, {result.error:.2%} of the sum missing, {nbytes}"
