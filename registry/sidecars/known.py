"""What the library knows of a model, as the writers of sidecars need it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, TypeVar

from registry.sidecars.record import Origin, Sidecar

if TYPE_CHECKING:
    from registry.records import Asset, File

_T = TypeVar("_T")

_TRUSTED_FIRST = (
    *("a1111", "lora-manager", "swarm", "stability-matrix", "civitai-info", "rgthree"),
    "hanakura",
)
"""Owners of sidecars: what users write themselves comes before what sites say."""

SITE_BASES = {"sd-1": "SD 1.5", "sd-2": "SD 2.1", "sdxl": "SDXL 1.0", "sd-3": "SD 3"}
"""Civitai's word for a family, where one word says no more than we know."""

SITE_TYPES = {
    "checkpoint": "Checkpoint",
    "lora": "LORA",
    "embedding": "TextualInversion",
    "hypernetwork": "Hypernetwork",
    "vae": "VAE",
    "controlnet": "Controlnet",
    "upscaler": "Upscaler",
    "motion-module": "MotionModule",
}
"""Civitai's word for a kind (`civitai/civitai` `packages/civitai-db-schema/src/enums.ts`)."""


@dataclass(frozen=True, slots=True)
class Known:
    """A model's file and all that is known of it. `base_text` is a site's word for the family.

    `added` is ISO 8601, `modified` seconds since 1970, `hashes` by the library's names for them.
    """

    path: str
    bytes: int
    modified: float
    added: str
    title: str
    kind: str
    base: str
    prediction: str
    description: str | None = None
    trigger_words: tuple[str, ...] = ()
    negative: str | None = None
    weight: float | None = None
    base_text: str | None = None
    tags: tuple[str, ...] = ()
    notes: str | None = None
    source: Origin | None = None
    preview: str | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        """The name of the model's file."""
        return PurePath(self.path).name

    @property
    def site_base(self) -> str | None:
        """The family as Civitai would say it."""
        return self.base_text or SITE_BASES.get(self.base)

    @property
    def site_type(self) -> str:
        """The kind as Civitai would say it."""
        return SITE_TYPES.get(self.kind, "Other")


@dataclass(frozen=True, slots=True)
class Written:
    """Keys of a JSON object: those that are set, and those that are set where there are none."""

    values: Mapping[str, object]
    defaults: Mapping[str, object] = field(default_factory=dict)


def known_of(asset: Asset, file: File, without: str | None = None) -> Known:
    """What the library, the header and the sidecars say of a file of an asset.

    What the user typed into the library wins. `without` is the path of a sidecar that is not asked:
    the one that is going to be written again.
    """
    told = sorted((each for each in asset.sidecars if each.path != without), key=_rank)
    of_site = [each for each in told if _is_of_site(each)]
    header = asset.metadata
    return Known(
        path=file.path,
        bytes=file.bytes,
        modified=file.mtime_ns / 1e9,
        added=asset.added.isoformat(),
        title=_first(each.name for each in told) or header.get("modelspec.title") or asset.name,
        kind=asset.kind,
        base=asset.base,
        prediction=asset.prediction,
        description=_first(each.description for each in told)
        or header.get("modelspec.description"),
        trigger_words=_first(each.trigger_words for each in told) or asset.trigger_words,
        negative=_first(each.negative for each in told),
        weight=_first(each.weight for each in told),
        base_text=_first(each.base for each in of_site),
        tags=asset.tags or _first(each.tags for each in told) or (),
        notes=asset.note or _first(each.notes for each in told),
        source=_origin(asset) or _first(each.source for each in of_site),
        preview=_first(each.preview for each in told),
        hashes={name: digest for name, digest in asset.hashes.items() if digest is not None},
    )


def _rank(told: Sidecar) -> tuple[int, str]:
    known = told.owner in _TRUSTED_FIRST
    return _TRUSTED_FIRST.index(told.owner) if known else len(_TRUSTED_FIRST), told.path


def _first(values: Iterable[_T | None]) -> _T | None:
    """The first that says something."""
    return next((value for value in values if value), None)


def _is_of_site(told: Sidecar) -> bool:
    return told.source is not None and told.source.service == "civitai"


def _origin(asset: Asset) -> Origin | None:
    for source in asset.sources:
        if source.source == "civitai":
            urls = (source.url,) if source.url else ()
            return Origin("civitai", source.repo, source.revision, urls=urls)
    return None
