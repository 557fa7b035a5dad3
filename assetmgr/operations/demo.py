"""The whole journey once, on a folder of small real models: build, scan, convert, merge, preview.

What a former run has already made is kept, so that the second run takes seconds. The demo has a
library of its own inside its folder and touches nothing of the user's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.config import Settings
from assetmgr.demo import PROMPT, SIZE
from assetmgr.demo import folder as demo
from assetmgr.operations.convert.change import Change
from assetmgr.operations.convert.plan import ConvertPlan, ConvertRequest, plan_convert
from assetmgr.operations.convert.run import run_convert
from assetmgr.operations.failures import Failure
from assetmgr.operations.merge.adapters import (
    MergeRequest,
    plan_merge_adapters,
    run_merge_adapters,
)
from assetmgr.operations.merge.weighted_adapters import WeightedAdapter
from assetmgr.operations.preview.render import PreviewRequest, PreviewResult, run_previews
from assetmgr.operations.preview.subject import PREVIEWABLE
from assetmgr.operations.scan import scan
from assetmgr.paths import Paths
from assetmgr.sampler.process.client import SamplerClient
from assetmgr.workspace import Workspace
from converters.progress import SILENT, Progress
from converters.transform.ema import EmaChoice

if TYPE_CHECKING:
    from registry.records import Asset
    from registry.scanning.scan_records import ScanReport

CONVERTED, MERGED = Path("converted"), Path("merged/shapes-outlined.safetensors")
_TO_CONVERT = (
    (demo.TRAINING, Change("fp16", EmaChoice.USE, prune=True)),
    (demo.EMBEDDING, Change()),
    (demo.HYPERNETWORK, Change("fp16")),
    (demo.PICKLED_VAE, Change("fp16")),
)

Tell = Callable[[str], None]
"""Receives a line about what is being done."""


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What the demo did and found; `failures` are the files that are meant to fail, and any other.

    `executed` is whether the hostile pickle ever ran.
    """

    folder: Path
    home: Path
    scan: ScanReport
    assets: tuple[Asset, ...]
    previews: tuple[PreviewResult, ...]
    failures: tuple[Failure, ...]
    executed: bool
    seconds: float


def run_demo(folder: Path, progress: Progress = SILENT, tell: Tell = lambda _: None) -> DemoReport:
    """Make the journey in `folder`. Raises what its steps raise, NotAvailable without sampler."""
    started = time.perf_counter()
    folder = folder.absolute()
    tell(f"building a folder of model files as people have them: {folder}")
    made = demo.build_demo_folder(folder, progress)
    home = folder / "home"
    failures: list[Failure] = []
    with Workspace(Settings(), Paths(home)) as workspace, SamplerClient() as sampler:
        if not (folder / MERGED).exists():
            sampler.begin()  # it is ready when the renders come
        tell("scanning it: identify by tensors, hash in one read")
        report = scan(workspace, [str(folder / "models"), str(folder / "embeddings")], progress)
        failures += [Failure(e.path, e.error, e.code, e.hint) for e in report.errors]
        tell("converting the pickles to safetensors, running nothing in them")
        failures += _convert(workspace, folder, progress, tell)
        tell("merging the LoRA into the checkpoint")
        _merge(workspace, folder, progress, tell)
        tell("rendering every asset to see that it works")
        previews = [*_preview(workspace, folder, sampler, progress, tell)]
        failures += [result for result in previews if isinstance(result, Failure)]
        assets = workspace.library.assets()
    return DemoReport(
        folder,
        home,
        report,
        assets,
        tuple(result for result in previews if isinstance(result, PreviewResult)),
        tuple(failures),
        made.was_executed,
        time.perf_counter() - started,
    )


def _convert(
    workspace: Workspace, folder: Path, progress: Progress, tell: Tell
) -> Iterator[Failure]:
    for source, change in _TO_CONVERT:
        target = folder / CONVERTED / source.with_suffix(".safetensors").name
        if target.exists():
            continue
        request = ConvertRequest((str(folder / source),), output=target, change=change)
        for plan in plan_convert(request):
            if isinstance(plan, ConvertPlan):
                run_convert(workspace, plan, progress)
                tell(f"  {source} -> {target.relative_to(folder)}")
            else:
                yield plan


def _merge(workspace: Workspace, folder: Path, progress: Progress, tell: Tell) -> None:
    if (folder / MERGED).exists():
        return
    lora = WeightedAdapter(str(folder / demo.LORA))
    request = MergeRequest(str(folder / demo.CHECKPOINT), (lora,), folder / MERGED)
    plan = plan_merge_adapters(workspace, request)
    run_merge_adapters(workspace, plan, progress)
    applied = sum(report.applied for report in plan.reports)
    tell(f"  {applied} modules changed {plan.changed} tensors -> {MERGED}")


def _preview(
    workspace: Workspace, folder: Path, sampler: SamplerClient, progress: Progress, tell: Tell
) -> Iterator[PreviewResult | Failure]:
    """Render what has no picture yet; adapters with a word of their own keep their own prompt."""
    waiting = [asset for asset in workspace.library.assets() if _is_waiting(asset)]
    with_own_words = [asset for asset in waiting if asset.kind in {"lora", "embedding"}]
    others = [asset for asset in waiting if asset not in with_own_words]
    for assets, prompt in ((others, PROMPT), (with_own_words, None)):
        references = tuple(f"#{asset.id}" for asset in assets)
        if not references:
            continue
        request = PreviewRequest(
            references, base=str(folder / demo.CHECKPOINT), prompt=prompt, size=SIZE
        )
        for result in run_previews(workspace, request, progress, sampler=sampler):
            if isinstance(result, PreviewResult):
                outcome = result.outcome
                tell(f"  {Path(result.path).name}: {outcome.verdict}, {outcome.seconds:.1f} s")
            yield result


def _is_waiting(asset: Asset) -> bool:
    if asset.kind not in PREVIEWABLE or asset.path is None:
        return False
    return asset.preview is None or not Path(asset.preview.path or "").is_file()
