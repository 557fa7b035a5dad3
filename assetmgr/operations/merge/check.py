"""Whether a merged file renders as its checkpoint does with the adapters in effect.

Three renders with one seed, in float32: the checkpoint with the adapters beside their layers, the
same with the changed weights rounded as those of the file are, and the merged file. The second
tells what rounding alone does to the picture, which is most where changes are smaller than the
steps of the type; the third must be no farther from the first.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.convert.change import DTYPES
from assetmgr.operations.merge.adapters import MergePlan
from assetmgr.operations.preview.job import content_name, plan_job
from assetmgr.operations.preview.render import companions_of
from assetmgr.operations.preview.request import PreviewRequest
from assetmgr.operations.preview.sheets import SHEETS
from assetmgr.operations.preview.subject import find_subject
from assetmgr.sampler.process.client import SamplerClient, require_packages
from assetmgr.sampler.process.jobs import RenderJob, RuntimeAdapter
from assetmgr.sampler.process.sheet_jobs import Difference, SheetJob
from converters.errors import AssetmgrError
from converters.progress import SILENT, Progress

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace

STEPS = 10
_TIMES = 1.5
"""How many times the difference that rounding makes may be seen."""
_FLOOR = 1e-4
"""Mean difference of latents, whose spread is about 1, that float32 arithmetic alone may make."""


class MergeDiffers(AssetmgrError):
    """A merged file does not render as its checkpoint with the adapters does."""

    code = "merge_differs"


@dataclass(frozen=True, slots=True)
class MergeCheck:
    """What the renders showed; `image` has both pictures and their difference.

    `rounding` is the difference that rounding alone may make, `threshold` the mean difference of
    latents from which on it is more than that.
    """

    difference: Difference
    rounding: Difference
    threshold: float
    image: str
    seconds: float

    @property
    def value(self) -> float:
        """The mean difference of the latents."""
        return self.difference.latent_mean or 0.0

    @property
    def ok(self) -> bool:
        """Whether the merged file does what the adapters do."""
        return self.value <= self.threshold

    def to_json(self) -> dict[str, object]:
        """The document of the contract."""
        return {
            "verdict": "ok" if self.ok else "failed",
            "value": self.value,
            "threshold": self.threshold,
            "difference": asdict(self.difference),
            "rounding": asdict(self.rounding),
            "image": self.image,
            "seconds": self.seconds,
        }


def require_checkable(workspace: Workspace, plan: MergePlan) -> None:
    """Raises NotAvailable where nothing can be rendered, UnsupportedFile for such a family."""
    require_packages()
    subject = find_subject(workspace, str(plan.sources[0]))
    companions_of(workspace, subject)


def check_merge(
    workspace: Workspace,
    plan: MergePlan,
    progress: Progress = SILENT,
    *,
    sampler: SamplerClient | None = None,
) -> MergeCheck:
    """Compare renders of a merge that was written.

    Raises NotAvailable without the packages that render, AssetmgrError where a picture fails, and
    what a render raises.
    """
    runtime, rounded, merged = _jobs(workspace, plan)
    # In this order the checkpoint is loaded once, and drawn once with the adapters.
    sheets = (
        _sheet(workspace, runtime, rounded, "with rounding"),
        _sheet(workspace, runtime, merged, "merged file"),
    )
    with ExitStack() as stack:
        client = stack.enter_context(SamplerClient()) if sampler is None else sampler
        drawn = [client.draw(sheet, progress) for sheet in sheets]
    Path(drawn[0].image).unlink(missing_ok=True)
    rounding, difference = (outcome.difference for outcome in drawn)
    if rounding is None or difference is None:
        raise AssetmgrError("a render gave no picture to compare", path=plan.request.output)
    threshold = max(_FLOOR, _TIMES * (rounding.latent_mean or 0.0))
    seconds = sum(outcome.seconds for outcome in drawn)
    return MergeCheck(difference, rounding, threshold, drawn[1].image, seconds)


def differs(check: MergeCheck, output: Path) -> MergeDiffers:
    """The error of a check that failed."""
    return MergeDiffers(
        f"renders other than its checkpoint with the adapters: latents differ by {check.value:.2g},"
        f" rounding explains {check.threshold:.2g}",
        path=output,
        hint=f"compare the pictures in {check.image}",
    )


def _sheet(workspace: Workspace, runtime: RenderJob, other: RenderJob, told: str) -> SheetJob:
    name = f"check-{content_name(other.subject)}{'-rounding' if other.rounded else ''}.png"
    image = str(workspace.paths.previews / SHEETS / name)
    columns = ("adapters at runtime", told)
    return SheetJob((runtime, other), columns, ("",), image, overwrite=True, compared=True)


def _jobs(workspace: Workspace, plan: MergePlan) -> tuple[RenderJob, RenderJob, RenderJob]:
    """The renders: adapters at runtime, the same rounded, and the merged file."""
    base = find_subject(workspace, str(plan.sources[0]))
    merged = find_subject(workspace, str(plan.request.output))
    request = PreviewRequest(steps=STEPS, dtype="fp32")
    folder = workspace.paths.previews
    companions = companions_of(workspace, base)
    planned = plan_job(request, base, base, folder)
    bare = replace(planned, companions=companions, image=None, thumbnail=None)
    adapters = tuple(
        RuntimeAdapter(str(path), each.weight, each.text_encoder, each.block_weights)
        for path, each in zip(plan.sources[1:], plan.request.adapters, strict=True)
    )
    runtime = replace(bare, adapters=adapters)
    return (
        runtime,
        replace(runtime, rounded=_precision(plan)),
        replace(bare, subject=merged.file),
    )


def _precision(plan: MergePlan) -> str:
    """The element type that the file's weights are rounded to, or that each keeps its own."""
    dtype = DTYPES[plan.request.dtype]
    return "keep" if dtype is None else dtype.label
