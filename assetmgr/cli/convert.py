"""`assetmgr convert`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from assetmgr.cli import completion
from assetmgr.cli.options import Session, common_options, failed_item
from assetmgr.operations.convert.change import DTYPES, PREDICTIONS, QUANTISED, Change
from assetmgr.operations.convert.formats import FORMATS, word_for
from assetmgr.operations.convert.plan import ConvertPlan, ConvertRequest, plan_convert
from assetmgr.operations.convert.run import ConvertResult, run_convert
from assetmgr.operations.failures import Failure
from assetmgr.text import plain, size
from assetmgr.workspace import Workspace
from converters.errors import AssetmgrError, Cancelled
from converters.progress import Progress
from converters.transform.cast import OnOverflow
from converters.transform.components import SELECTABLE
from converters.transform.ema import EmaChoice
from converters.transform.layout import LAYOUTS

_FIELDS: dict[str, object] = {
    "source": None,
    "target": None,
    "container": None,
    "tensors": None,
    "bytes": None,
    "seconds": None,
    "hashes": None,
    "dropped": [],
    "warnings": [],
    "losses": [],
    "verified": False,
    "done_before": False,
    "asset": None,
}


@click.command(epilog="Example: assetmgr convert old.ckpt --dtype fp16 --ema drop")
@click.argument(
    "sources", nargs=-1, required=True, metavar="SRC...", shell_complete=completion.asset
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Target of one source.")
@click.option("--output-dir", type=click.Path(path_type=Path), help="Folder for the targets.")
@click.option(
    "--to",
    type=click.Choice(list(FORMATS)),
    help="Container; without it that which -o ends in, else safetensors.",
)
@click.option(
    "--dtype",
    type=click.Choice([*DTYPES, *QUANTISED]),
    default="keep",
    help="Precision; q8_0 and those after it for GGUF, large matrices only.",
)
@click.option(
    "--ema", type=click.Choice([c.value for c in EmaChoice]), default="keep", help="EMA weights."
)
@click.option(
    "--on-overflow",
    type=click.Choice([c.value for c in OnOverflow]),
    default="keep",
    help="For tensors with values too large for --dtype: keep their precision, clamp, or fail.",
)
@click.option("--prune", is_flag=True, help="Drop what no program renders with.")
@click.option("--components", default="", metavar="A,B", help=f"Only {', '.join(SELECTABLE)}.")
@click.option("--vae", type=click.Path(path_type=Path), help="Put this file's VAE in.")
@click.option("--layout", type=click.Choice(LAYOUTS), help="Names in an adapter or a component.")
@click.option("--prediction", type=click.Choice(PREDICTIONS), help="Where the file says nothing.")
@click.option("--verify", is_flag=True, help="Read the target again and compare every tensor.")
@click.option("--ray", metavar="ADDRESS", help="Spread over a Ray cluster; local starts one here.")
@click.option("--recursive", is_flag=True, help="Look into the folders of a folder too.")
@click.option("--overwrite", is_flag=True, help="Replace targets that exist.")
@click.option("--dry-run", is_flag=True, help="Print the plan and do nothing.")
@common_options
@click.pass_obj
def convert(
    session: Session,
    sources: tuple[str, ...],
    output: Path | None,
    output_dir: Path | None,
    to: str | None,
    dtype: str,
    ema: str,
    on_overflow: str,
    prune: bool,
    components: str,
    vae: Path | None,
    layout: str | None,
    prediction: str | None,
    verify: bool,
    ray: str | None,
    recursive: bool,
    overwrite: bool,
    dry_run: bool,
) -> int:
    """Convert models, or the models in folders, to safetensors or another container.

    The folder of a diffusers pipeline is one model. Targets lie beside their sources unless told
    otherwise. Pickles are read without running anything in them. Results are registered in the
    library with what they were made from.
    """
    parts = tuple(filter(None, map(str.strip, components.split(","))))
    change = Change(
        dtype,
        EmaChoice(ema),
        prune,
        OnOverflow(on_overflow),
        parts,
        vae,
        prediction,
        layout=layout,
    )
    word = to or word_for(output)
    request = ConvertRequest(sources, output, output_dir, change, word, recursive, overwrite)
    with Workspace.open() as workspace, session.progress() as progress:
        address = None if dry_run else ray or workspace.settings.ray
        results = (
            _run_here(workspace, request, progress, dry_run=dry_run, verify=verify)
            if address is None
            else _run_on_ray(workspace, request, address, progress, verify=verify)
        )
        documents = [report(session, result) for result in results]
    if not documents:
        session.warn("nothing to convert: no model files, or all are safetensors already")
    if session.as_json:
        session.output.document(documents)
    return session.status


def _run_here(
    workspace: Workspace,
    request: ConvertRequest,
    progress: Progress,
    *,
    dry_run: bool,
    verify: bool,
) -> Iterator[ConvertPlan | ConvertResult | Failure]:
    for plan in plan_convert(request):
        if dry_run or _is_done(plan):
            yield plan
        else:
            yield run_planned(workspace, plan, progress, verify=verify)


def _run_on_ray(
    workspace: Workspace,
    request: ConvertRequest,
    address: str,
    progress: Progress,
    *,
    verify: bool,
) -> Iterator[ConvertPlan | ConvertResult | Failure]:
    from assetmgr.operations.convert.ray_cluster import run_converts_on_ray

    planned = list(plan_convert(request))
    waiting = [plan for plan in planned if isinstance(plan, ConvertPlan) and not plan.done_before]
    yield from (plan for plan in planned if isinstance(plan, Failure) or plan.done_before)
    if waiting:
        yield from run_converts_on_ray(
            workspace, waiting, request, address, progress, verify=verify
        )


def _is_done(plan: ConvertPlan | Failure) -> bool:
    return isinstance(plan, ConvertPlan) and plan.done_before


def run_planned(
    workspace: Workspace, plan: ConvertPlan | Failure, progress: Progress, *, verify: bool
) -> ConvertResult | Failure:
    """Run a plan; what goes wrong is the failure of this item alone."""
    if isinstance(plan, Failure):
        return plan
    try:
        return run_convert(workspace, plan, progress, verify=verify)
    except Cancelled:
        raise
    except AssetmgrError as error:
        return Failure.of(error, plan.source)


def report(session: Session, result: ConvertPlan | ConvertResult | Failure) -> dict[str, object]:
    """Print what was planned or done, and give its document."""
    if isinstance(result, Failure):
        session.fail(result)
        return failed_item(result, {**_FIELDS, "source": result.item})
    plan = result if isinstance(result, ConvertPlan) else result.plan
    nbytes = plan.nbytes if isinstance(result, ConvertPlan) else result.written.nbytes
    for warning in result.warnings:
        session.warn(f"{plan.source}: {warning}")
    if not session.as_json:
        notes = f", {len(plan.dropped)} dropped" if plan.dropped else ""
        notes += ", done before" if plan.done_before else ""
        session.output.line(
            f"{plain(str(plan.source))} -> {plain(str(plan.target))}"
            f"  {len(plan.state)} tensors, {size(nbytes)}{notes}"
        )
    return result.to_json()
