"""Everything the TUI asks of the program: the one module that calls operations.

All methods block and are called in threads. Operations are imported when first used, so that the
first frame waits for none of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from converters.errors import AssetmgrError, BadValue, FileMissing
from tui.bridge import Work
from tui.query import View
from tui.sections import Section, text
from tui.text import count, size

if TYPE_CHECKING:
    from assetmgr.operations.convert_plan import ConvertPlan
    from assetmgr.operations.failures import Failure
    from assetmgr.sampler.client import SamplerClient
    from assetmgr.workspace import Workspace
    from converters.progress import Progress
    from registry.records import Asset, Page

Result = TypeVar("Result")

MOST_NAMES = 12
"""How many left-out tensors a plan names; an optimizer has thousands."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """A planned conversion: what the job is called, what it is going to do, and the doing."""

    title: str
    sections: tuple[Section, ...]
    work: Work


class Commands:
    """What can be asked about and done to the library of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._sampler: SamplerClient | None = None

    def close(self) -> None:
        """End the sampler's process."""
        if self._sampler is not None:
            self._sampler.close()

    # ---- looking

    @property
    def library_name(self) -> str:
        """What the library is called on the screen: where it lies."""
        return str(self._workspace.paths.home)

    def kinds(self) -> Mapping[str, int]:
        """Number of assets of each kind."""
        return self._workspace.library.kinds()

    def page(self, view: View, offset: int, limit: int) -> Page:
        """Rows of a view. Raises BadValue for a filter that means nothing."""
        return self._workspace.library.search(
            view.query, sort=view.order, limit=limit, offset=offset
        )

    def asset(self, asset_id: int) -> Asset:
        """Everything known of one asset. Raises AssetNotFound."""
        return self._workspace.library.get(asset_id)

    # ---- acting

    def retag(self, asset_id: int, tags: tuple[str, ...]) -> None:
        """Let an asset have exactly these tags."""
        from assetmgr.operations.tagging import TagChange, change_tags

        tags = tuple(tag.lower() for tag in tags)  # as the library keeps them
        had = self.asset(asset_id).tags
        add = tuple(tag for tag in tags if tag not in had)
        remove = tuple(tag for tag in had if tag not in tags)
        change_tags(self._workspace, TagChange((f"#{asset_id}",), add, remove))

    def rescan(self, progress: Progress) -> str:
        """Look through all folders of the library."""
        from assetmgr.operations.scan import scan

        report = scan(self._workspace, (), progress)
        words = ("added", "updated", "moved", "restored", "missing", "failed")
        found = [f"{getattr(report, word):,} {word}" for word in words if getattr(report, word)]
        return ", ".join(found) or f"nothing new in {count(len(report.roots), 'folder')}"

    def plan_conversion(self, asset_id: int) -> Conversion:
        """What converting an asset to safetensors, beside its file, would do; from headers alone.

        Raises AssetmgrError when it cannot be done.
        """
        from assetmgr.operations.convert_plan import ConvertRequest, plan_convert

        asset = self.asset(asset_id)
        if asset.path is None:
            raise FileMissing("all files of this asset are missing", path=asset.name)
        if asset.container == "safetensors":
            raise BadValue("is a safetensors file already", path=asset.name)
        (plan,) = map(_succeeded, plan_convert(ConvertRequest((asset.path,))))
        work = partial(self._convert, plan)
        return Conversion(f"Conversion of {asset.name}", tuple(_plan_sections(plan)), work)

    def _convert(self, plan: ConvertPlan, progress: Progress) -> str:
        """Write the planned file and add it to the library."""
        from assetmgr.operations.convert import run_convert

        result = run_convert(self._workspace, plan, progress)
        return f"{plan.target.name}, {size(result.written.nbytes)} in {result.seconds:.1f} s"

    def preview(self, asset_id: int, progress: Progress) -> str:
        """Render and judge; the sampler stays warm for the next one."""
        from assetmgr.operations.preview import PreviewRequest, run_previews
        from assetmgr.sampler.client import SamplerClient

        if self._sampler is None:
            self._sampler = SamplerClient()
        request = PreviewRequest(assets=(f"#{asset_id}",))
        results = run_previews(self._workspace, request, progress, sampler=self._sampler)
        (outcome,) = (_succeeded(result).outcome for result in results)
        failed = [check.name for check in outcome.checks if not check.ok]
        return ", ".join([f"{outcome.verdict} in {outcome.seconds:.1f} s", *failed])


def _succeeded(result: Result | Failure) -> Result:
    """The result of a batch of one; its failure becomes the error it was made from."""
    from assetmgr.operations.failures import Failure

    if isinstance(result, Failure):
        raise AssetmgrError(result.error, path=result.path, hint=result.hint)
    return result


def _plan_sections(plan: ConvertPlan) -> Iterator[Section]:
    facts = (
        ("source", text(plan.source)),
        ("target", text(plan.target)),
        ("kind", text(f"{plan.identity.kind}, {plan.identity.base}")),
        ("tensors", text(f"{len(plan.state):,}")),
        ("size", text(f"{size(plan.nbytes)}   {plan.nbytes:,} bytes")),
    )
    yield Section("", facts)
    if plan.dropped:
        names = [text(name) for name in plan.dropped[:MOST_NAMES]]
        more = len(plan.dropped) - len(names)
        names += [text(f"and {more:,} more", "$dim")] if more else []
        yield Section("Left out", tuple(("", name) for name in names))
    if plan.warnings:
        rows = tuple(("", text(warning, "$warning")) for warning in plan.warnings)
        yield Section("Warnings", rows)
