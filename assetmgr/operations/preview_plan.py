"""What a preview is going to render: the subjects, the base checkpoint, and every open choice."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.sampler.emphasis import escape
from assetmgr.sampler.families import FAMILIES, not_rendered
from assetmgr.sampler.few_steps import few_steps
from assetmgr.sampler.jobs import ModelFile, RenderJob
from assetmgr.sampler.solvers import DEFAULT_SOLVER, solver_named
from converters.bases import Base
from converters.errors import (
    AssetNotFound,
    BadValue,
    FileMissing,
    NotAvailable,
    UnsupportedFile,
    naming,
)
from converters.writers.atomic import refuse_existing
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
    (r"sd[-_]?3", Base.SD3),
    (r"flux|taef1|^ae$", Base.FLUX),
)
"""What is in the names of autoencoders, whose tensors are the same in several families."""

FLOW_SOLVER = "Euler"
DEFAULT_PROMPT = "a red apple on a wooden table, soft daylight"
DEFAULT_STEPS = 20
MOST_CLIP_SKIP = 12
"""Layers of CLIP-L."""
SIZE_STEP = 8
SIZE_LIMITS = (64, 2048)

PROMPT_KEY = "assetmgr.preview_prompt"
"""Metadata key of a file's own default prompt."""
RESOLUTION_KEY = "modelspec.resolution"
"""Metadata key of a checkpoint's natural size, as `512x512` (SAI ModelSpec 1.0)."""


@dataclass(frozen=True, slots=True)
class PreviewRequest:
    """What to render and how; None leaves a choice to the program.

    `assets` are references (path, #ID, hash, name); none means all of the library that matches
    `query` and can be rendered, but for what has passed the same render before, unless `again`.
    `size` is (width, height) in pixels. `output` is the picture's file, for a single asset.
    """

    assets: tuple[str, ...] = ()
    query: str = ""
    again: bool = False
    base: str | None = None
    prompt: str | None = None
    negative: str = ""
    steps: int | None = None
    cfg: float | None = None
    sampler: str | None = None
    size: tuple[int, int] | None = None
    seed: int = 1
    weight: float = 1.0
    device: str = "auto"
    dtype: str = "auto"
    clip_skip: int = 1
    low_vram: bool = False
    output: Path | None = None
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Subject:
    """A file to render and what is known of it.

    `asset` is its number in the library, None for a file outside of it. `words` call it in a
    prompt; `prompt` and `size` are its own wishes. `last` is its newest preview, `scanned` the file
    as the library knows it.
    """

    asset: int | None
    file: ModelFile
    base: str
    words: tuple[str, ...]
    prompt: str | None
    size: tuple[int, int] | None
    last: Preview | None = None
    scanned: File | None = None

    @property
    def is_checkpoint(self) -> bool:
        """Whether it renders by itself."""
        return self.file.kind in ("checkpoint", DENOISER)

    @property
    def is_flow(self) -> bool:
        """Whether it is of a family that borrows its encoders from other files."""
        family = FAMILIES.get(Base(self.base))
        return family is not None and family.flow


def check_request(request: PreviewRequest) -> None:
    """Raises BadValue for values that no render can have, TargetExists for an output in the way."""
    solver = solver_named(request.sampler or DEFAULT_SOLVER)
    if request.steps is not None:
        _require(f"steps of {solver.name}", request.steps, 1, solver.most_steps)
    _require("clip skip", request.clip_skip, 1, MOST_CLIP_SKIP)
    if request.cfg is not None:
        _require("cfg", request.cfg, 0, 100)
    _require("seed", request.seed, 0, 2**63 - 1)
    check_weight(request.weight)
    for edge in request.size or ():
        _require("the size", edge, *SIZE_LIMITS)
        if edge % SIZE_STEP:
            raise BadValue(f"sizes are multiples of {SIZE_STEP}, not {edge}")
    if request.output is not None:
        if len(request.assets) != 1:
            raise BadValue("an output file can be given for a single asset only")
        refuse_existing(request.output, overwrite=request.overwrite)


def check_weight(weight: float) -> None:
    """Raises BadValue for a strength that no render can have."""
    _require("weight", weight, -100, 100)


def _require(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise BadValue(f"{name} must be from {low} to {high}, not {value}")


def find_subject(workspace: Workspace, reference: str) -> Subject:
    """The asset of a reference, or the file at a path that the library does not know.

    Raises AssetNotFound, AmbiguousAsset, FileMissing, the errors of reading a file, and
    UnsupportedFile for kinds and families that cannot be rendered.
    """
    try:
        subject = from_asset(workspace.library.find(reference))
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
            asset.path, asset.name, asset.kind, hashes.get("sha256"), hashes.get("autov3")
        ),
        base=asset.base,
        words=tuple(asset.trigger_words),
        prompt=asset.metadata.get(PROMPT_KEY),
        size=parse_size(asset.metadata.get(RESOLUTION_KEY)) or _last_size(asset.preview),
        last=asset.preview,
        scanned=next((file for file in asset.files if file.path == asset.path), None),
    )


def _last_size(preview: Preview | None) -> tuple[int, int] | None:
    """The size of the newest render, so that checking an asset once more is the same check."""
    if preview is None:
        return None
    return parse_size(str(preview.parameters.get("size")))


def _from_file(path: Path) -> Subject:
    from converters.containers import open_model
    from converters.identify import identify

    sd = open_model(path).state_dict
    identity = identify(sd)
    return Subject(
        asset=None,
        file=ModelFile(str(path.resolve()), shown(path.stem), identity.kind),
        base=identity.base,
        words=identity.trigger_words,
        prompt=sd.metadata.get(PROMPT_KEY),
        size=parse_size(sd.metadata.get(RESOLUTION_KEY)),
    )


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Width and height of `512x768` where that is a size we render, else None."""
    match = re.fullmatch(r"\s*(\d{1,5})\s*[x×]\s*(\d{1,5})\s*", text or "")
    if match is None:
        return None
    width, height = int(match[1]), int(match[2])
    low, high = SIZE_LIMITS
    fits = all(low <= edge <= high and edge % SIZE_STEP == 0 for edge in (width, height))
    return (width, height) if fits else None


def choose_bases(
    workspace: Workspace, request: PreviewRequest, subjects: Iterable[Subject]
) -> dict[str, Subject]:
    """The checkpoints that adapters are tried on, by family, as far as there are any.

    The one asked for serves every subject, those of the settings their own family, else it is the
    most complete of the library. Raises NotAvailable when a named one is not there.
    """
    wanted = dict.fromkeys(_family(subject) for subject in subjects if not subject.is_checkpoint)
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
        found[_family(base)] = base
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


def no_base(subject: Subject) -> NotAvailable:
    """Why a subject cannot be tried."""
    return NotAvailable(
        f"the library has no {Base(_family(subject)).label} checkpoint to render adapters on",
        hint="scan a folder that has one, or name a file with --base",
    )


def _family(subject: Subject) -> str:
    """The family to try a subject on; an autoencoder fits several, and often its name tells."""
    if subject.base != Base.UNKNOWN:
        return subject.base
    named = VAE_NAMES if subject.file.kind == "vae" else ()
    found = (base for words, base in named if re.search(words, subject.file.name, re.IGNORECASE))
    return str(next(found, Base.SD1))


def base_of(subject: Subject, bases: Mapping[str, Subject]) -> Subject | None:
    """The checkpoint that renders a subject, if there is one; a checkpoint renders itself."""
    return subject if subject.is_checkpoint else bases.get(_family(subject))


def _named_base(workspace: Workspace, reference: str) -> Subject:
    try:
        base = find_subject(workspace, reference)
    except AssetNotFound as error:
        raise NotAvailable("there is no such base checkpoint", path=reference) from error
    if not base.is_checkpoint:
        raise BadValue(f"is of kind {base.file.kind}, not a checkpoint", path=reference)
    return base


def plan_job(
    request: PreviewRequest,
    subject: Subject,
    checkpoint: Subject,
    folder: Path,
) -> RenderJob:
    """The render of a subject with every choice made; pictures go to `folder` by default.

    `checkpoint` is what renders it: itself, or the base of an adapter. SD3 and Flux are always
    sampled by Euler's steps, and still want the files that they borrow components of.
    """
    family = FAMILIES[Base(_family(checkpoint))]
    few = None if family.flow else few_steps(subject.file.name, checkpoint.file.name)
    solver = request.sampler or (DEFAULT_SOLVER if few is None else few.solver)
    usual = (DEFAULT_STEPS, family.cfg) if few is None else (few.steps, few.cfg)
    width, height = request.size or checkpoint.size or (family.size, family.size)
    own = str(folder / content_name(subject.file))
    return RenderJob(
        subject=subject.file,
        base=None if subject.is_checkpoint else checkpoint.file,
        prompt=_prompt(subject, checkpoint) if request.prompt is None else request.prompt,
        negative=request.negative,
        steps=usual[0] if request.steps is None else request.steps,
        cfg=usual[1] if request.cfg is None else request.cfg,
        sampler=FLOW_SOLVER if family.flow else solver_named(solver).name,
        width=width,
        height=height,
        seed=request.seed,
        weight=request.weight,
        trigger=embedding_word(subject) if subject.file.kind == "embedding" else None,
        device=request.device,
        dtype=request.dtype,
        clip_skip=request.clip_skip,
        low_vram=request.low_vram,
        image=f"{own}.png" if request.output is None else str(request.output),
        thumbnail=f"{own}.webp",
        overwrite=request.output is None or request.overwrite,
    )


def _prompt(subject: Subject, checkpoint: Subject) -> str:
    """The subject's own prompt, else the checkpoint's or a neutral one with the calling words."""
    if subject.prompt is not None:
        return subject.prompt
    scene = checkpoint.prompt or DEFAULT_PROMPT
    return ", ".join([*map(escape, _calling_words(subject)), scene])


def _calling_words(subject: Subject) -> tuple[str, ...]:
    if subject.file.kind == "embedding":
        return (embedding_word(subject),)
    return subject.words if subject.file.kind == "lora" else ()


def embedding_word(subject: Subject) -> str:
    """What an embedding is called by: its own word, else its file's name."""
    return subject.words[0] if subject.words else subject.file.name


def content_name(file: ModelFile) -> str:
    """A name for the pictures of a file: by its content where that is known, else by its path."""
    digest = file.sha256 or hashlib.sha256(os.fsencode(file.path)).hexdigest()
    return digest[:20]
