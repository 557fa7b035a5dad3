"""`assetmgr extract lora`."""

from __future__ import annotations

from pathlib import Path

import click

from assetmgr.cli import completion
from assetmgr.cli.options import Session, common_options, model_output
from assetmgr.operations.convert.change import DTYPES
from assetmgr.operations.extract.lora import (
    ExtractLoraPlan,
    ExtractLoraRequest,
    ExtractLoraResult,
    plan_extract_lora,
    run_extract_lora,
)
from assetmgr.text import plain, size
from assetmgr.workspace import Workspace
from converters.merge.low_rank import Size

PRECISIONS = [word for word in DTYPES if word.startswith(("fp16", "fp32", "bf16"))]
"""What adapters are stored in."""


@click.command(
    epilog="Example: assetmgr extract lora tuned.safetensors base.safetensors --rank 32"
    " -o style.safetensors"
)
@click.argument("tuned", shell_complete=completion.asset)
@click.argument("base", shell_complete=completion.asset)
@click.option("--rank", type=int, help="Rank of every module.")
@click.option("--energy", type=float, help="Share of each difference's squared norm to keep.")
@click.option("--norm", type=float, help="Share of each difference's Frobenius norm to keep.")
@click.option("--conv", is_flag=True, help="Every weight of the UNet, convolutions too.")
@model_output
@click.option("--dtype", type=click.Choice(PRECISIONS), default="fp16", help="Precision.")
@click.option("--overwrite", is_flag=True, help="Replace a target that exists.")
@click.option("--dry-run", is_flag=True, help="Print the plan and do nothing.")
@common_options
@click.pass_obj
def lora(
    session: Session,
    tuned: str,
    base: str,
    rank: int | None,
    energy: float | None,
    norm: float | None,
    conv: bool,
    output: Path,
    dtype: str,
    overwrite: bool,
    dry_run: bool,
) -> int:
    """Extract a LoRA: what makes TUNED of BASE.

    The differences of attention and text encoder (with --conv, of the whole UNet) are truncated to
    a rank, or to as many ranks as an energy or a norm needs. What the LoRA misses is stated.
    """
    request = ExtractLoraRequest(
        tuned, base, output, Size.of(rank, energy, norm), conv, dtype, overwrite
    )
    with Workspace.open() as workspace, session.progress() as progress:
        plan = plan_extract_lora(workspace, request)
        result = plan if dry_run else run_extract_lora(workspace, plan, progress)
    if isinstance(result, ExtractLoraResult):
        for warning in result.warnings:
            session.warn(warning)
    return session.answer(result, _line)


def _line(result: ExtractLoraPlan | ExtractLoraResult) -> str:
    if isinstance(result, ExtractLoraPlan):
        return f"-> {plain(str(result.request.output))}  {len(result.extraction.modules)} modules"
    target = plain(str(result.plan.request.output))
    count, nbytes = len(result.extraction.modules), size(result.written.nbytes)
    return f"-> {target}  {count} modules, {result.error:.2%} of the difference missing, {nbytes}"
