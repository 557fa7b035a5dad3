"""Single components and adapters under the names of another program."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from converters.adapters.peft_spelling import PEFT, in_peft
from converters.adapters.spelling import SPELLINGS, respelled
from converters.bases import Base
from converters.embedding_forms import FORMS, in_form, inversions_in
from converters.errors import UnsupportedFile
from converters.extras import METADATA_KEY
from converters.identify import Identity, Kind
from converters.identify.adapter_family import is_of_sd1_or_sd2
from converters.identify.embeddings import is_vectors
from converters.identify.names import Names
from converters.identify.unet_facts import unet_facts
from converters.layouts.components import PREFIXES, UNET, VAE
from converters.layouts.mmdit import mmdit_to_diffusers
from converters.layouts.openclip import (
    is_openclip,
    openclip_from_transformers,
    openclip_to_transformers,
)
from converters.layouts.sd_unet import unet_to_diffusers, unet_to_ldm
from converters.layouts.sd_vae import vae_to_diffusers, vae_to_ldm
from converters.statedict import StateDict

Rename = Callable[[StateDict], StateDict]

_IN_A_FILE = re.compile(
    r"(?:cond_stage_model|conditioner\.embedders\.\d+|text_encoders\.\w+)\.(?:transformer|model)\."
)


def _bare(state: StateDict, component: str) -> StateDict:
    prefix = PREFIXES[component][0]
    return state.rename(lambda name: name.removeprefix(prefix))


def _hf_clip(state: StateDict) -> StateDict:
    encoder = _encoder(state)
    return openclip_to_transformers(encoder) if is_openclip(encoder) else state


def _openclip(state: StateDict) -> StateDict:
    encoder = _encoder(state)
    return state if is_openclip(encoder) else openclip_from_transformers(encoder)


def _encoder(state: StateDict) -> StateDict:
    """A text encoder without the prefix that it has in a single file."""
    found = {match[0] if (match := _IN_A_FILE.match(name)) else "" for name in state}
    if len(found) > 1:
        raise UnsupportedFile(
            "holds more than one text encoder", hint="`assetmgr extract text-encoder` takes one out"
        )
    prefix = next(iter(found), "")
    return state.rename(lambda name: name.removeprefix(prefix))


_LAYOUTS: Mapping[Kind, Mapping[str, Rename]] = {
    Kind.VAE: {
        "ldm": lambda state: _bare(vae_to_ldm(vae_to_diffusers(state)), VAE),
        "diffusers": vae_to_diffusers,
    },
    Kind.DIFFUSION_MODEL: {
        "ldm": lambda state: _bare(unet_to_ldm(unet_to_diffusers(state)), UNET),
        "diffusers": unet_to_diffusers,
    },
    Kind.TEXT_ENCODER: {"hf-clip": _hf_clip, "openclip": _openclip},
}
_TRANSFORMERS: Mapping[Base, Mapping[str, Rename]] = {
    base: {"diffusers": lambda state: mmdit_to_diffusers(_bare(state, UNET))}
    for base in (Base.SD3, Base.FLUX)
}

LAYOUTS = tuple(
    dict.fromkeys(
        [*(word for words in _LAYOUTS.values() for word in words), *SPELLINGS, PEFT, *FORMS]
    )
)
"""Every layout that some kind of file can be given."""


def relayout(state: StateDict, identity: Identity, layout: str) -> StateDict:
    """One component, an adapter or an embedding under the names of a layout, with the same bytes.

    What has that layout already, of any kind, stays as it is.

    Raises UnsupportedFile for a kind that does not have it, CorruptFile for broken structures,
    MergeProblem for broken adapters.
    """
    if identity.kind is Kind.LORA and layout in SPELLINGS:
        return respelled(state, _family(state, identity), layout)
    if identity.kind is Kind.LORA and layout == PEFT:
        return in_peft(state, _family(state, identity))
    if layout in FORMS and (identity.kind is Kind.EMBEDDING or _is_bare_embedding(state, identity)):
        return _embedding(state, layout)
    transformer = _is_transformer(state, identity)
    table = _TRANSFORMERS.get(identity.base, {}) if transformer else _LAYOUTS.get(identity.kind, {})
    if layout in table:
        return table[layout](state)
    if layout == identity.layout:
        return state
    what = f"a transformer of {identity.base.label}" if transformer else f"of kind {identity.kind}"
    hint = "use --to diffusers" if identity.kind is Kind.CHECKPOINT else None
    raise UnsupportedFile(f"is {what}, which has no layout {layout}", hint=hint)


def _family(state: StateDict, identity: Identity) -> Base:
    """The family by whose names an adapter goes; those of SD1 and SD2 are the same.

    Rotations and factors of single channels show no width that would tell these apart.
    """
    if identity.base is Base.UNKNOWN and is_of_sd1_or_sd2(state):
        return Base.SD1
    return identity.base


def _is_transformer(state: StateDict, identity: Identity) -> bool:
    is_unet = unet_facts(Names(state).denoiser).layout is not None
    return identity.kind is Kind.DIFFUSION_MODEL and not is_unet


def _is_bare_embedding(state: StateDict, identity: Identity) -> bool:
    """Whether a lone tensor without a name can be token vectors, which only its user knows."""
    return (
        identity.kind is Kind.UNKNOWN and set(state) == {"tensor"} and is_vectors(state["tensor"])
    )


def _embedding(state: StateDict, layout: str) -> StateDict:
    file = next(iter(state.values())).origin.partition(": ")[0]
    found = inversions_in(state, Path(file).stem)
    if len(found) > 1:
        raise UnsupportedFile(
            f"holds {len(found)} embeddings", hint="`assetmgr extract embeddings` takes them out"
        )
    kept = {key: text for key, text in state.metadata.items() if key != METADATA_KEY}
    return in_form(found[0], layout).with_metadata(kept)
