"""The models that can be rendered, in the library and outside of it, and what is known of each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.preview.request import parse_size
from assetmgr.sampler.models.families import FAMILIES, not_rendered
from assetmgr.sampler.process.jobs import ModelFile
from converters.bases import Base, Prediction
from converters.errors import AssetNotFound, FileMissing, UnsupportedFile, naming
from converters.kinds import Kind
from converters.pickles.verdict import SafetyReport, Verdict
from registry.text import shown

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset, File, Preview

PREVIEWABLE = ("checkpoint", "lora", "embedding", "hypernetwork", "vae")
"""Kinds that can be rendered."""

DENOISER = "diffusion-model"
"""Kind of a denoiser without encoders and VAE; in the families of flow it can borrow them."""

SUPPORTED_BASES = (*(str(base) for base in FAMILIES), "unknown")
"""Families that can be rendered; what has no certain one is tried on SD1."""

FLOW_BASES = tuple(str(base) for base, family in FAMILIES.items() if family.flow)
VAE_NAMES = (
    (r"xl|playground", Base.SDXL),
    (r"(?:sd|stable-diffusion)[-_]?3", Base.SD3),
    (r"flux|taef1|^ae$", Base.FLUX),
)
"""What is in the names of autoencoders, whose tensors are the same in several families."""

PROMPT_KEY = "assetmgr.preview_prompt"
"""Metadata key of a file's own default prompt."""
RESOLUTION_KEY = "modelspec.resolution"
"""Metadata key of a checkpoint's natural size, as `512x512` (SAI ModelSpec 1.0)."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A file to render and what is known of it.

    `asset` is its number in the library, None for a file outside of it. `words` call it in a
    prompt; `prompt` and `size` are its own wishes. `last` is its newest preview, `scanned` the file
    as the library knows it. `prediction` is what a checkpoint was trained for.
    """

    asset: int | None
    file: ModelFile
    base: str
    words: tuple[str, ...]
    prompt: str | None
    size: tuple[int, int] | None
    last: Preview | None = None
    scanned: File | None = None
    prediction: str = Prediction.UNKNOWN

    @property
    def is_checkpoint(self) -> bool:
        """Whether it renders by itself."""
        return self.file.kind in ("checkpoint", DENOISER)

    @property
    def is_flow(self) -> bool:
        """Whether it is of a family that borrows its encoders from other files."""
        family = FAMILIES.get(Base(self.base))
        return family is not None and family.flow

    @property
    def family(self) -> str:
        """The family to try it on; an autoencoder fits several, and often its name tells."""
        if self.base != Base.UNKNOWN:
            return self.base
        named = named_family(self.file.name) if self.file.kind == "vae" else None
        return str(named or Base.SD1)


def named_family(vae: str) -> Base | None:
    """The family that the name of an autoencoder tells, where its tensors do not."""
    found = (base for words, base in VAE_NAMES if re.search(words, vae, re.IGNORECASE))
    return next(found, None)


def find_subject(workspace: Workspace, reference: str) -> Subject:
    """The asset of a reference, or the file at a path that the library does not know.

    Raises AssetNotFound, AmbiguousAsset, FileMissing, the errors of reading a file, and
    UnsupportedFile for kinds and families that cannot be rendered.
    """
    try:
        subject = from_asset(workspace.library.find(reference))
        if subject.file.kind == Kind.UNKNOWN:
            _from_file(Path(subject.file.path))  # which says why, where it cannot be read
    except AssetNotFound:
        if not Path(reference).exists():
            raise
        subject = _from_file(Path(reference))
    with naming(reference):
        if subject.base not in SUPPORTED_BASES:
            raise not_rendered(Base(subject.base))
        if subject.file.kind == DENOISER and subject.base not in FLOW_BASES:
            raise UnsupportedFile(
                "is a UNet alone: VAE and text encoders are missing",
                hint="a whole checkpoint can be rendered",
            )
        if not is_previewable(subject.file.kind, subject.base):
            raise UnsupportedFile(f"files of kind {subject.file.kind} cannot be rendered")
    return subject


def is_previewable(kind: str, base: str) -> bool:
    """Whether assets of this kind and family can be rendered, as far as these tell."""
    if kind == DENOISER:
        return base in FLOW_BASES
    return kind in PREVIEWABLE


def from_asset(asset: Asset) -> Subject:
    """The asset at the first of its places that is there. Raises FileMissing."""
    if asset.path is None:
        raise FileMissing("all files of this asset are missing", path=asset.name)
    hashes = asset.hashes
    return Subject(
        asset=asset.id,
        file=ModelFile(
            asset.path,
            asset.name,
            asset.kind,
            hashes.get("sha256"),
            hashes.get("autov3"),
            _danger(asset.safety),
        ),
        base=asset.base,
        words=tuple(asset.trigger_words),
        prompt=asset.metadata.get(PROMPT_KEY),
        size=parse_size(asset.metadata.get(RESOLUTION_KEY)) or _last_size(asset.preview),
        last=asset.preview,
        scanned=next((file for file in asset.files if file.path == asset.path), None),
        prediction=asset.prediction,
    )


def _danger(safety: SafetyReport) -> str | None:
    """What a verdict has to say of a file that runs something where others open it."""
    return safety.findings[0] if safety.verdict is Verdict.DANGEROUS else None


def _last_size(preview: Preview | None) -> tuple[int, int] | None:
    """The size of the newest render, so that checking an asset once more is the same check."""
    if preview is None:
        return None
    return parse_size(str(preview.parameters.get("size")))


def _from_file(path: Path) -> Subject:
    from converters.containers import open_model
    from converters.identify.beside import identify_file

    model = open_model(path)
    sd = model.state_dict
    identity = identify_file(path, sd)
    return Subject(
        asset=None,
        file=ModelFile(
            str(path.resolve()), shown(path.stem), identity.kind, danger=_danger(model.safety)
        ),
        base=identity.base,
        words=identity.trigger_words,
        prompt=sd.metadata.get(PROMPT_KEY),
        size=parse_size(sd.metadata.get(RESOLUTION_KEY)),
        prediction=identity.prediction,
    )
