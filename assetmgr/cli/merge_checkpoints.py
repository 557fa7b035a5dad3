"""`assetmgr merge checkpoints` and `assetmgr merge replay`."""

from __future__ import annotations

from pathlib import Path

import click

from assetmgr.cli import completion
from assetmgr.cli.options import Session, common_options, model_output
from assetmgr.operations.convert.change import DTYPES
from assetmgr.operations.merge.checkpoints import (
    CheckpointMergePlan,
    CheckpointMergeRequest,
    CheckpointMergeResult,
    parse_blocks,
    parse_sources,
    parse_weights,
    plan_merge_checkpoints,
    run_merge_checkpoints,
)
from assetmgr.operations.merge.overflow import ON_OVERFLOW
from assetmgr.operations.merge.replay import request_of_replay
from assetmgr.text import plain, size
from assetmgr.workspace import Workspace
from converters.merge.checkpoints import METHODS
from converters.merge.checkpoints.choice import MergeChoice, Weights
from converters.progress import Progress
from converters.transform.cast import OnOverflow

overflow_option = click.option(
    "--on-overflow",
    type=click.Choice([word.value for word in ON_OVERFLOW]),
    default=OnOverflow.FAIL.value,
    help="For values too large for the precision of the target: fail, or clamp them.",
)
"""The option of all merges that round."""


@click.command(
    epilog="Example: assetmgr merge checkpoints a.safetensors b.safetensors"
    " --method weighted-sum --alpha 0.4 -o blend.safetensors"
)
@click.argument(
    "models", nargs=-1, required=True, metavar="A B [C]...", shell_complete=completion.asset
)
@click.option("--method", type=click.Choice(list(METHODS)), required=True, help="How to merge.")
@click.option(
    "--alpha",
    default="",
    metavar="X[,PART=Y]...",
    help="Weight of B, or of what is added; PART is unet, vae or text_encoder.",
)
@click.option("--beta", type=float, help="Weight of C in a weighted sum of three.")
@click.option(
    "--block-weights",
    default="",
    metavar="W,W,...",
    help="A weight per block: BASE, IN00..IN11, M00, OUT00..OUT11; or without BASE.",
)
@click.option("--density", type=float, help="ties: the share of each difference that is kept.")
@click.option("--drop", type=float, help="dare: the share of each difference that is dropped.")
@click.option("--seed", type=int, help="dare: decides what is dropped; 0 if not given.")
@click.option(
    "--components",
    default="",
    metavar="PART=A,...",
    help="Take a part from one model as it is: unet, vae, text_encoder.",
)
@model_output
@click.option("--dtype", type=click.Choice(list(DTYPES)), default="keep", help="Precision.")
@overflow_option
@click.option("--overwrite", is_flag=True, help="Replace a target that exists.")
@click.option("--dry-run", is_flag=True, help="Print the plan and do nothing.")
@common_options
@click.pass_obj
def checkpoints(
    session: Session,
    models: tuple[str, ...],
    method: str,
    alpha: str,
    beta: float | None,
    block_weights: str,
    density: float | None,
    drop: float | None,
    seed: int | None,
    components: str,
    output: Path,
    dtype: str,
    on_overflow: str,
    overwrite: bool,
    dry_run: bool,
) -> int:
    """Merge checkpoints of one family.

    Arithmetic is in fp32, a tensor at a time; the result has the precision of A. The recipe is kept
    in the target and can be run again with `merge replay`.

    add-difference, train-difference and perpendicular add to A what B has learned since C; ties and
    dare add to A what each other model has; average takes any number.
    """
    given = parse_weights(alpha)
    weights = Weights(given.default, given.components, parse_blocks(block_weights))
    sources = parse_sources(components)
    choice = MergeChoice(
        method,
        weights,
        beta,
        density,
        drop,
        seed,
        sources,
        DTYPES[dtype],
        clamped=on_overflow == OnOverflow.CLAMP,
    )
    request = CheckpointMergeRequest(models, choice, output, overwrite)
    with Workspace.open() as workspace, session.progress() as progress:
        return _merge(session, workspace, request, progress, dry_run=dry_run)


@click.command(epilog="Example: assetmgr merge replay blend.safetensors -o again.safetensors")
@click.argument("recipe", metavar="RECIPE_OR_FILE", shell_complete=completion.file)
@click.option(
    "--search",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FOLDER",
    help="Look for the models here too, by their names.",
)
@model_output
@click.option("--overwrite", is_flag=True, help="Replace a target that exists.")
@click.option("--dry-run", is_flag=True, help="Print the plan and do nothing.")
@common_options
@click.pass_obj
def replay(
    session: Session,
    recipe: str,
    search: tuple[Path, ...],
    output: Path,
    overwrite: bool,
    dry_run: bool,
) -> int:
    """Make a merge of checkpoints again, byte for byte.

    The recipe is a .toml file, or a model that was merged. Its models are found in the library by
    their hashes, or by their names beside the recipe or here.
    """
    with Workspace.open() as workspace, session.progress() as progress:
        request = request_of_replay(
            workspace,
            recipe,
            output,
            search=search,
            overwrite=overwrite,
            progress=progress,
        )
        return _merge(session, workspace, request, progress, dry_run=dry_run)


def _merge(
    session: Session,
    workspace: Workspace,
    request: CheckpointMergeRequest,
    progress: Progress,
    *,
    dry_run: bool,
) -> int:
    plan = plan_merge_checkpoints(workspace, request)
    result = plan if dry_run else run_merge_checkpoints(workspace, plan, progress)
    for warning in result.warnings:
        session.warn(warning)
    if session.as_json:
        session.output.document(result.to_json())
    else:
        _print(session, plan, result)
    return session.status


def _print(
    session: Session,
    plan: CheckpointMergePlan,
    result: CheckpointMergePlan | CheckpointMergeResult,
) -> None:
    out = session.output
    for report in plan.merge.reports:
        for names, what in ((report.missing, "lacks"), (report.unused, "alone has")):
            if names:
                some = ", ".join(names[:3]) + ", …" * (len(names) > 3)
                out.line(f"{report.label} {what} {len(names)} tensors: {plain(some)}")
    merged, total = len(plan.merge.merged), len(plan.merge.state)
    equal = result.equal if isinstance(result, CheckpointMergeResult) else 0
    kept = f" ({equal} stay as in A)" if equal else ""
    target = plain(str(plan.request.output))
    method = plan.request.choice.method
    out.line(
        f"-> {target}  {method}: {merged} of {total} tensors merged{kept}, {size(result.nbytes)}"
    )
