"""The checkpoints that adapters are rendered on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from assetmgr.operations.preview.request import PreviewRequest
from assetmgr.operations.preview.subject import (
    DENOISER,
    FLOW_BASES,
    Subject,
    find_subject,
    from_asset,
)
from assetmgr.sampler.process.jobs import ModelFile
from converters.bases import Base
from converters.errors import AssetNotFound, BadValue, NotAvailable

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset


def choose_bases(
    workspace: Workspace, request: PreviewRequest, subjects: Iterable[Subject]
) -> dict[str, Subject]:
    """The checkpoints that adapters are tried on, by family, as far as there are any.

    The one asked for serves every subject, those of the settings their own family, else it is the
    most complete of the library. Raises NotAvailable when a named one is not there.
    """
    wanted = dict.fromkeys(subject.family for subject in subjects if not subject.is_checkpoint)
    if wanted and request.base is not None:
        return dict.fromkeys(wanted, _named_base(workspace, request.base))
    found = _preferred_bases(workspace, wanted)
    for family in wanted.keys() - found.keys():
        for asset in _possible_bases(workspace, family)[:1]:
            found[family] = from_asset(asset)
    return {family: found[family] for family in wanted if family in found}


def _preferred_bases(workspace: Workspace, wanted: Mapping[str, object]) -> dict[str, Subject]:
    """Those that the settings name, by family; one for a family goes before one for any."""
    settings = workspace.settings
    found: dict[str, Subject] = {}
    if wanted and settings.preview_base is not None:
        base = _named_base(workspace, settings.preview_base)
        found[base.family] = base
    for family in wanted:
        if family in settings.preview_bases:
            found[family] = _named_base(workspace, settings.preview_bases[family])
    return found


def _possible_bases(workspace: Workspace, family: str) -> Sequence[Asset]:
    """Checkpoints to try adapters on, best first; those of flow may lack what others lend them."""
    found = workspace.library.bases(family)
    if found or family not in FLOW_BASES:
        return found
    kinds = (f"kind:{kind} base:{family}" for kind in ("checkpoint", DENOISER))
    listed = (asset for query in kinds for asset in workspace.library.assets(query))
    return [asset for asset in listed if asset.path is not None and not asset.problems]


RELATIVES = 3
"""Checkpoints of the family that a checkpoint is compared with; the first is hardly ever none."""


def relatives_of(workspace: Workspace, subject: Subject) -> tuple[ModelFile, ...]:
    """The library's other checkpoints of the family, for a checkpoint that borrows nothing."""
    if not subject.is_checkpoint or subject.is_flow:
        return ()
    found = workspace.library.bases(subject.base)
    others = [each for each in found if each.id != subject.asset and each.path is not None]
    return tuple(from_asset(each).file for each in others[:RELATIVES])


def no_base(subject: Subject) -> NotAvailable:
    """Why a subject cannot be tried."""
    return NotAvailable(
        f"the library has no {Base(subject.family).label} checkpoint to render adapters on",
        hint="scan a folder that has one, or name a file with --base",
    )


def base_of(subject: Subject, bases: Mapping[str, Subject]) -> Subject | None:
    """The checkpoint that renders a subject, if there is one; a checkpoint renders itself."""
    return subject if subject.is_checkpoint else bases.get(subject.family)


def _named_base(workspace: Workspace, reference: str) -> Subject:
    try:
        base = find_subject(workspace, reference)
    except AssetNotFound as error:
        raise NotAvailable("there is no such base checkpoint", path=reference) from error
    if not base.is_checkpoint:
        raise BadValue(f"is of kind {base.file.kind}, not a checkpoint", path=reference)
    return base
