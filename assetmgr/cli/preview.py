"""`assetmgr preview`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from assetmgr.cli import completion, preview_sheets
from assetmgr.cli.failures import INTERRUPTED
from assetmgr.cli.options import Session, common_options, failed_item
from assetmgr.operations.failures import Failure
from assetmgr.operations.preview.job import DEFAULT_STEPS, unheeded
from assetmgr.operations.preview.render import (
    PreviewRequest,
    PreviewResult,
    failed_check,
    run_previews,
)
from assetmgr.sampler.rendering.solvers import DEFAULT_SOLVER, EVEN_DPM, SOLVERS
from assetmgr.text import plain
from assetmgr.workspace import Workspace
from converters.errors import BadValue, Cancelled
from converters.progress import Progress

_DEFAULTS = PreviewRequest()
_FIELDS: dict[str, object] = {
    "asset": None,
    "image": None,
    "thumbnail": None,
    "thumbnail_png": None,
    "verdict": "failed",
    "checks": [],
    "seconds": None,
    "load_seconds": None,
    "peak_memory_bytes": None,
    "memory_measures": [],
    "memory_fallbacks": [],
    "parameters": None,
    "skipped": False,
}


class _Size(click.ParamType[tuple[int, int]]):
    name = "WxH"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", str(value).lower())
        if match is None:
            self.fail(f"{value!r} is not a size such as 512x768", param, ctx)
        return int(match[1]), int(match[2])


@click.command(epilog="Example: assetmgr preview '#12' --prompt 'a red circle' --seed 7")
@click.argument("assets", nargs=-1, metavar="[ASSET]...", shell_complete=completion.asset)
@click.option("--all", "everything", is_flag=True, help="All of the library.")
@click.option("--query", default="", help="All of the library that matches, as kind:lora.")
@click.option("--again", is_flag=True, help="With --all and --query, what has passed before, too.")
@click.option("--base", help="Checkpoint that adapters are rendered on.")
@click.option("--compare", is_flag=True, help="Two assets: their renders and the difference.")
@click.option("--grid", is_flag=True, help="One asset: a sheet of all --weights and --prompt.")
@click.option(
    "--weights", default="", metavar="A,B,C", help="Columns of --grid; by default 0,0.5,1."
)
@click.option(
    "--prompt", "prompts", multiple=True, help="What to render; by default the trigger words."
)
@click.option("--negative", default="", help="What not to render.")
@click.option(
    "--steps", type=int, help=f"By default {DEFAULT_STEPS}; fewer for LCM and Turbo, by the name."
)
@click.option("--cfg", type=float, help="Guidance; by default 7, for SD3 4.5, for Flux 3.5.")
@click.option(
    "--sampler",
    help=f"{', '.join(solver.name for solver in SOLVERS)}; by default {DEFAULT_SOLVER}, "
    f"or {EVEN_DPM} with v prediction or fewer than {DEFAULT_STEPS} steps.",
)
@click.option(
    "--clip-skip",
    type=int,
    default=1,
    show_default=True,
    help="Layer of CLIP to take, from the end; SDXL takes the 2nd or an earlier one.",
)
@click.option("--size", type=_Size(), help="Width and height in pixels.")
@click.option("--seed", type=int, default=_DEFAULTS.seed, show_default=True)
@click.option("--weight", type=float, default=1.0, show_default=True, help="Of an adapter.")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", help="Where."
)
@click.option("--low-vram", is_flag=True, help="Slower, with a fraction of the graphics memory.")
@click.option("--ray", metavar="ADDRESS", help="Spread over a Ray cluster; local starts one here.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Picture of one asset, or sheet."
)
@click.option("--overwrite", is_flag=True, help="Replace a picture that exists.")
@common_options
@click.pass_obj
def preview(
    session: Session,
    assets: tuple[str, ...],
    everything: bool,
    query: str,
    again: bool,
    base: str | None,
    compare: bool,
    grid: bool,
    weights: str,
    prompts: tuple[str, ...],
    negative: str,
    steps: int | None,
    cfg: float | None,
    sampler: str | None,
    clip_skip: int,
    size: tuple[int, int] | None,
    seed: int,
    weight: float,
    device: str,
    low_vram: bool,
    ray: str | None,
    output: Path | None,
    overwrite: bool,
) -> int:
    """Verify assets with a render, and make their thumbnails; without an asset all of the library.

    A checkpoint is rendered alone, an adapter on a base checkpoint and compared with the same
    render without it. SD3 and Flux borrow encoders and VAE from the library, and are always sampled
    by Euler's steps. Nothing is fetched from any network. Of the library, what has passed the same
    render before is not rendered again, so that an interrupted run goes on where it was.

    --compare renders two assets with the same seed and settings, say a model and its conversion,
    and tells how far they are apart; --grid renders one at several weights with several prompts.
    Both give one picture of all renders.
    """
    _check_shape(compare=compare, grid=grid, weights=weights, prompts=prompts)
    if assets and (everything or query or again):
        raise BadValue("--all, --query and --again are for the library, not for named assets")
    request = PreviewRequest(
        assets=assets,
        query=query,
        again=again,
        base=base,
        prompt=prompts[0] if len(prompts) == 1 else None,
        negative=negative,
        steps=steps,
        cfg=cfg,
        sampler=sampler,
        clip_skip=clip_skip,
        size=size,
        seed=seed,
        weight=weight,
        device=device,
        low_vram=low_vram,
        output=output,
        overwrite=overwrite,
    )
    if compare:
        return preview_sheets.compare(session, request)
    if grid:
        return preview_sheets.grid(session, request, weights, prompts)
    with Workspace.open() as workspace, session.progress() as progress:
        address = ray or (None if assets else workspace.settings.ray)
        results = _results(workspace, request, address, progress)
        documents = list(_reported(session, request, results))
    if not documents:
        session.warn("nothing to preview: the library has no such asset that can be rendered")
    if session.as_json:
        session.output.document(documents)
    return session.status


def _check_shape(*, compare: bool, grid: bool, weights: str, prompts: tuple[str, ...]) -> None:
    if compare and grid:
        raise BadValue("--compare and --grid are two different pictures")
    if weights and not grid:
        raise BadValue("--weights are for --grid; without it there is --weight")
    if len(prompts) > 1 and not grid:
        raise BadValue("several prompts are for --grid")


def _results(
    workspace: Workspace, request: PreviewRequest, address: str | None, progress: Progress
) -> Iterator[PreviewResult | Failure]:
    if address is None:
        return run_previews(workspace, request, progress)
    from assetmgr.operations.preview.ray_cluster import run_previews_on_ray

    return run_previews_on_ray(workspace, request, address, progress)


def _reported(
    session: Session, request: PreviewRequest, results: Iterator[PreviewResult | Failure]
) -> Iterator[dict[str, object]]:
    """The documents of the results; an interruption is the last of them, what was made stays."""
    try:
        yield from (_report(session, request, result) for result in results)
    except (KeyboardInterrupt, Cancelled):
        yield _report(
            session, request, Failure(None, "interrupted", "cancelled", None, INTERRUPTED)
        )


def _report(
    session: Session, request: PreviewRequest, result: PreviewResult | Failure
) -> dict[str, object]:
    if isinstance(result, Failure):
        session.fail(result)
        return failed_item(result, _FIELDS)
    if result.outcome.memory_fallbacks:
        told = ", ".join(result.outcome.memory_fallbacks)
        session.warn(f"{result.path}: the memory did not suffice; rendered with {told}")
    for said in unheeded(request, result.outcome):
        session.warn(f"{result.path}: {said}")
    failure = failed_check(result.path, result.outcome)
    if failure is not None:
        session.fail(failure)
    if not session.as_json:
        outcome = result.outcome
        image = outcome.image or "no picture"
        took = "done before" if result.skipped else f"{outcome.seconds:.1f} s"
        session.output.line(f"{plain(result.path)}  {outcome.verdict}  {took}  {plain(image)}")
    document = result.to_json()
    return document | {"errors": [failure.to_json()]} if failure else document
