"""The files that an SD3 or Flux checkpoint borrows for a render: encoders, autoencoder, tokenizer.

They are looked for in the library by what is in them: the widths must be those that the transformer
takes. T5's vocabulary is in no checkpoint; it is looked for in the pipelines of the library, beside
the encoders, and in the cache of the Hugging Face Hub.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.preview.subject import named_family
from assetmgr.sampler.process.jobs import ModelFile
from converters.bases import Base
from converters.containers import open_model
from converters.errors import FileProblem, NotAvailable
from converters.layouts.components import UNET, VAE
from converters.layouts.flow_parts import (
    CLIP,
    CLIP_G,
    CLIP_L,
    NEEDED,
    T5,
    T5_TOKENIZER,
    clip_width,
    held,
)
from converters.layouts.mmdit import TextSizes, mmdit_to_diffusers, text_sizes
from converters.layouts.t5 import EMBEDDED, SHARED
from converters.statedict import StateDict

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset

_TOKENIZER_FOLDERS = ("tokenizer_2", "tokenizer_3")
_TOKENIZER = "tokenizer.json"
_MOST_JSON = 1 << 25
"""Bytes of a tokenizer; T5's has 2.4 million."""

_NAMELESS = "kind:vae base:unknown"
_LATENTS = 16
_TRUE_WIDTHS = {768: CLIP_L, 1280: CLIP_G}
"""Widths of SD3's encoders as trained, by which one is known without the other."""

_NAMES = {
    CLIP_L: "the CLIP-L text encoder",
    CLIP_G: "the CLIP-G text encoder",
    T5: "the T5-XXL text encoder",
    VAE: "an autoencoder of this family with 16 channels",
    T5_TOKENIZER: f"T5's tokenizer ({_TOKENIZER})",
}


@dataclass(slots=True)
class _Search:
    """What a checkpoint wants and what was found: role -> file."""

    base: Base
    sizes: TextSizes
    own: Mapping[str, StateDict]
    found: dict[str, ModelFile] = field(default_factory=dict)
    clips: dict[int, ModelFile | None] = field(default_factory=dict)

    @property
    def missing(self) -> list[str]:
        """Roles that nothing plays yet, T5 among them."""
        roles = dict.fromkeys((*NEEDED[self.base], T5))
        return [role for role in roles if role not in self.own and role not in self.found]

    def offer(self, file: ModelFile) -> None:
        """Take from a file what is missing and fits; a file that cannot be read offers nothing."""
        try:
            parts = held(open_model(file.path).state_dict, self.base)
            fitting = [role for role in self.missing if self._fits(role, parts.get(role))]
            if CLIP in parts and (self.base is Base.FLUX or _is_projected(parts[CLIP])):
                self.clips.setdefault(clip_width(parts[CLIP]), replace(file, kind=CLIP))
        except FileProblem:
            return
        self.found |= {role: replace(file, kind=role) for role in fitting}

    def _fits(self, role: str, part: StateDict | None) -> bool:
        if part is None:
            return False
        if role == VAE:
            return _channels(part) == _LATENTS
        if role == T5:
            return _size(part, SHARED, 1) == self.sizes.token or (
                _size(part, EMBEDDED, 1) == self.sizes.token
            )
        if self.base is Base.FLUX:
            return clip_width(part) == self.sizes.pooled
        return _is_projected(part) and clip_width(part) < self.sizes.pooled

    def settle_clips(self) -> None:
        """Give lone CLIP encoders their roles: the widths of both make up the summary's."""
        widths: dict[int, ModelFile | None] = dict(self.clips)
        for role in (CLIP_L, CLIP_G):
            if role in self.own:
                widths[clip_width(self.own[role])] = None
        for width, file in sorted(widths.items()):
            if self.base is Base.FLUX:
                self._cast(CLIP_L, file if width == self.sizes.pooled else None)
                continue
            if self.sizes.pooled == sum(_TRUE_WIDTHS) and width in _TRUE_WIDTHS:
                self._cast(_TRUE_WIDTHS[width], file)
            other = self.sizes.pooled - width
            if width < other and other in widths:
                self._cast(CLIP_L, file)
                self._cast(CLIP_G, widths[other])

    def _cast(self, role: str, file: ModelFile | None) -> None:
        if file is not None and role in self.missing:
            self.found[role] = replace(file, kind=role)


def find_companions(
    workspace: Workspace, checkpoint: ModelFile, base: str
) -> tuple[ModelFile, ...]:
    """The files that a checkpoint of a family needs beside itself; the kind of each is its role.

    Raises the errors of reading the checkpoint, and NotAvailable naming all that is missing.
    SD3 does without T5.
    """
    state = open_model(checkpoint.path).state_dict
    own = held(state, Base(base))
    sizes = text_sizes(mmdit_to_diffusers(own.get(UNET, StateDict({}))))
    search = _Search(Base(base), sizes, own)
    for file in _candidates(workspace, base):
        if search.missing:
            search.offer(file)
    search.settle_clips()
    files = dict(search.found)
    tokenizer = _tokenizer(workspace, checkpoint, search)
    if tokenizer is not None:
        files[T5_TOKENIZER] = ModelFile(str(tokenizer), _TOKENIZER, T5_TOKENIZER)
    elif search.base is Base.SD3:
        files.pop(T5, None)
    missing = [role for role in search.missing if role in NEEDED[search.base]]
    if tokenizer is None and T5 in NEEDED[search.base]:
        missing.append(T5_TOKENIZER)
    if missing:
        raise NotAvailable(
            f"the library lacks {', '.join(_NAMES[role] for role in missing)}",
            path=checkpoint.path,
            hint="scan the folders that have them, or a pipeline of this family",
        )
    return tuple(files.values())


def _candidates(workspace: Workspace, base: str) -> Iterator[ModelFile]:
    """Files that may hold a component, those made for the family first.

    The autoencoders of two families have the same tensors: one whose name tells another is left
    out, and one whose name tells this goes before the nameless.
    """
    for query in (
        f"kind:vae base:{base}",
        "kind:text-encoder",
        f"kind:checkpoint base:{base}",
        _NAMELESS,
    ):
        assets = workspace.library.assets(query)
        for asset in _named_first(assets, Base(base)) if query == _NAMELESS else assets:
            if asset.path is not None and not asset.problems:
                yield ModelFile(asset.path, asset.name, asset.kind, asset.hashes.get("sha256"))


def _named_first(vaes: Sequence[Asset], base: Base) -> Iterator[Asset]:
    named = [(vae, named_family(vae.name)) for vae in vaes]
    for wanted in (base, None):
        yield from (vae for vae, family in named if family is wanted)


def _tokenizer(workspace: Workspace, checkpoint: ModelFile, search: _Search) -> Path | None:
    """A tokenizer with no more pieces than the T5 encoder knows; None without one or the other."""
    t5 = search.found.get(T5)
    if t5 is None and T5 not in search.own:
        return None
    part = search.own[T5] if t5 is None else held(open_model(t5.path).state_dict, search.base)[T5]
    pieces = _size(part, SHARED, 0) or _size(part, EMBEDDED, 0)
    files = [checkpoint.path] if t5 is None else [t5.path, checkpoint.path]
    pipelines = (file.path for file in _candidates(workspace, search.base))
    places = chain(*map(_beside, chain(files, pipelines)), _in_hub_cache(os.environ))
    return next(filter(partial(_is_tokenizer, pieces=pieces), dict.fromkeys(places)), None)


def _beside(path: str) -> Iterator[Path]:
    """Where a file, a component's folder or a pipeline's may have the tokenizer."""
    place = Path(path)
    for folder in (place, place.parent, place.parent.parent):
        yield from (folder / name / _TOKENIZER for name in _TOKENIZER_FOLDERS)
    yield place.parent / _TOKENIZER


def _in_hub_cache(environment: Mapping[str, str]) -> Iterator[Path]:
    """Tokenizers that the Hub's library downloaded (places: huggingface_hub `constants.py`)."""
    home = Path(environment.get("HF_HOME") or "~/.cache/huggingface")
    cache = Path(environment.get("HF_HUB_CACHE") or home / "hub").expanduser()
    for inner in (*(f"{name}/{_TOKENIZER}" for name in _TOKENIZER_FOLDERS), _TOKENIZER):
        yield from sorted(cache.glob(f"models--*/snapshots/*/{inner}"))


def _is_tokenizer(path: Path, pieces: int | None) -> bool:
    """Whether a file is a tokenizer of T5's making (Unigram) whose ids an encoder knows."""
    try:
        if pieces is None or path.stat().st_size > _MOST_JSON:
            return False
        model = json.loads(path.read_bytes())["model"]
        return model["type"] == "Unigram" and 0 < len(model["vocab"]) <= pieces
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _channels(vae: StateDict) -> int | None:
    return _size(vae, "decoder.conv_in.weight", 1)


def _is_projected(clip: StateDict) -> bool:
    return any(name.startswith("text_projection") for name in clip)


def _size(part: StateDict, name: str, axis: int) -> int | None:
    tensor = part.get(name)
    return tensor.shape[axis] if tensor is not None and axis < len(tensor.shape) else None
