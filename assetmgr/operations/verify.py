"""Whether files are still what they were, whole, and free of broken numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assetmgr.operations.failures import Failure
from assetmgr.operations.preview.render import PreviewRequest, run_previews
from assetmgr.operations.preview.subject import PREVIEWABLE, SUPPORTED_BASES
from assetmgr.sampler.process.client import SamplerClient
from converters.containers import Inspected, open_model
from converters.errors import AssetmgrError, FileProblem
from converters.finite import non_finite
from converters.identify import identify
from converters.pickles.verdict import SafetyReport, Verdict
from converters.progress import SILENT, Progress

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset, File

OK, FAILED = "ok", "failed"
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Check:
    """One question, its answer, and what was found."""

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found of one file; `render` is None unless it was asked for and possible."""

    asset: int
    path: str
    checks: tuple[Check, ...]
    render: str | None = None

    @property
    def integrity(self) -> str:
        """Whether its bytes are those that were registered."""
        return self._of("integrity")

    @property
    def structure(self) -> str:
        """Whether it opens, is complete, and holds only finite numbers."""
        return self._of("opens", "complete", "finite")

    @property
    def is_ok(self) -> bool:
        """Whether nothing was found."""
        return all(check.ok for check in self.checks) and self.render != FAILED

    def _of(self, *names: str) -> str:
        return OK if all(check.ok for check in self.checks if check.name in names) else FAILED

    def to_json(self) -> dict[str, object]:
        """The document of the contract."""
        return {
            "asset": self.asset,
            "path": self.path,
            "integrity": self.integrity,
            "structure": self.structure,
            "render": self.render,
            "checks": [
                {"name": check.name, "ok": check.ok, "detail": check.detail}
                for check in self.checks
            ],
        }


def verify(
    workspace: Workspace,
    references: tuple[str, ...] = (),
    progress: Progress = SILENT,
    *,
    render: bool = False,
) -> Iterator[Verified | Failure]:
    """Verify every file of assets, of all that are there when none is named; findings are kept.

    The registered hashes stay as they are whatever is found. With `render` the assets are previewed
    too. Raises Cancelled, and NotAvailable when nothing can be rendered; an asset that cannot be
    found is a Failure.
    """
    with SamplerClient() as sampler:  # started by the first render, if there is one
        renderer = sampler if render else None
        for found in _assets(workspace, references):
            yield from _asset_verified(workspace, found, progress, renderer)


def _asset_verified(
    workspace: Workspace, found: Asset | Failure, progress: Progress, sampler: SamplerClient | None
) -> Iterator[Verified | Failure]:
    if isinstance(found, Failure):
        yield found
        return
    verdict = None if sampler is None else _rendered(workspace, found, progress, sampler)
    places = [file for file in found.files if file.here and file.state == "present"]
    results = [_verified(found, file, verdict, progress) for file in places]
    if not results:
        yield Failure(found.name, "no file of this asset is there", "not_found", None)
        return
    workspace.library.record_verification(
        found.id,
        integrity=_worst(result.integrity for result in results),
        structure=_worst(result.structure for result in results),
    )
    yield from results


def _assets(workspace: Workspace, references: tuple[str, ...]) -> Iterator[Asset | Failure]:
    if not references:
        there = workspace.library.assets("-is:missing -is:offline")
        yield from (asset for asset in there if asset.path is not None)  # not on other machines
    for reference in references:
        try:
            yield workspace.library.find(reference)
        except AssetmgrError as error:
            yield Failure.of(error, reference)


def _worst(words: Iterator[str]) -> str:
    return FAILED if FAILED in set(words) else OK


def _verified(asset: Asset, file: File, render: str | None, progress: Progress) -> Verified:
    checks = (_integrity(asset, file, progress), *_structure(file, progress))
    return Verified(asset.id, file.path, checks, render)


def _integrity(asset: Asset, file: File, progress: Progress) -> Check:
    from registry.records import CACHE
    from registry.scanning.on_disk import hash_model

    progress.stage(f"hashing {asset.name}", file.bytes)
    try:
        now = hash_model(file.path, progress).hashes.sha256
    except FileProblem as error:
        return Check("integrity", False, error.cause)
    known = asset.hashes["sha256"]
    if known is not None and now != known:
        return Check("integrity", False, f"SHA-256 was {known} and is {now}")
    blobs = (claim.digest for claim in asset.claims if claim.origin == CACHE)
    named = next((digest for digest in blobs if digest != now), None)
    if named is not None:
        return Check("integrity", False, f"the cache names SHA-256 {named}, the bytes have {now}")
    told = "was not read before" if known is None else "the bytes are those that were registered"
    return Check("integrity", True, told)


def _structure(file: File, progress: Progress) -> Iterator[Check]:
    try:
        model = open_model(file.path)
        yield Check("opens", True, str(model.container))
        yield _safe(model.safety)
        problems = (*model.problems, *identify(model.state_dict).problems)
        yield Check("complete", not problems, "; ".join(problems) or "nothing is missing")
        progress.stage("looking for broken numbers", model.state_dict.nbytes)
        broken = list(non_finite(model.state_dict, progress))
    except FileProblem as error:
        yield Check("opens", False, error.cause)
        if isinstance(error, Inspected):
            yield _safe(error.safety)
        return
    names = ", ".join(broken[:_NAMED]) + ", ..." * (len(broken) > _NAMED)
    told = f"{len(broken)} tensors hold NaN or infinities: {names}"
    yield Check("finite", not broken, told if broken else "every number is finite")


def _safe(found: SafetyReport) -> Check:
    """Whether nothing in it would harm who opens it with another program."""
    is_safe = found.verdict is not Verdict.DANGEROUS
    return Check("safe", is_safe, "; ".join([found.verdict.value, *found.findings]))


def _rendered(
    workspace: Workspace, asset: Asset, progress: Progress, sampler: SamplerClient
) -> str | None:
    """The verdict of a preview; None for what cannot be rendered."""
    if asset.kind not in PREVIEWABLE or asset.base not in SUPPORTED_BASES or asset.path is None:
        return None
    request = PreviewRequest((f"#{asset.id}",))
    (result,) = run_previews(workspace, request, progress, sampler=sampler)
    return FAILED if isinstance(result, Failure) else result.outcome.verdict
