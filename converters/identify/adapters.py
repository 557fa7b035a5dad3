"""LoRA files and their relatives.

The algorithm follows from suffixes (`adapter_keys`), the family from widths (`adapter_family`);
cloneofsimo/lora writes numbered pairs without module names.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from converters.bases import BASE_OF_WIDTH, Base
from converters.identify.adapter_family import base_family
from converters.identify.adapter_keys import (
    Key,
    Tensors,
    adapter_keys,
    algorithms,
    component_of_key,
    is_adapter_key,
    rank_of,
)
from converters.identify.conditions import both, either, has_any, matching, most, no
from converters.identify.counts import components
from converters.identify.identity import Identity
from converters.identify.names import Names
from converters.identify.row import Row
from converters.kinds import Kind
from converters.layouts.components import TEXT_ENCODER, UNET
from converters.statedict import StateDict

_INDEXED = re.compile(r"^(?:unet|text_encoder):\d+:(?:up|down)$")
_BUNDLED = re.compile(r"^bundle_emb\.([^.]+)\.")
_NUMBERED = re.compile(r"^\d+$")


def _describe(sd: StateDict) -> Identity:
    keys = list(adapter_keys(sd))
    family = base_family(sd, keys, sd.metadata)
    ranks = Counter(rank for key in keys for rank in [rank_of(key)] if rank is not None)
    return Identity(
        Kind.LORA,
        base=family.base,
        layout=_layout(sd),
        algorithm=algorithms(keys),
        rank=ranks.most_common(1)[0][0] if ranks else None,
        confidence=family.confidence,
        evidence=(
            _size_sentence(sd, keys),
            *family.evidence,
            *_rank_sentence(ranks),
            *_bundle_sentence(sd),
        ),
        components=components(sd, component_of_key),
        trigger_words=_bundled(sd),
    )


def _size_sentence(sd: Tensors, keys: list[Key]) -> str:
    modules = len({key.module for key in keys})
    return f"{len(keys)} of {len(sd)} tensors belong to {modules} adapter modules"


def _rank_sentence(ranks: Counter[int]) -> tuple[str, ...]:
    if len(ranks) < 2:
        return ()
    return (f"ranks differ between modules: {', '.join(map(str, sorted(ranks)))}",)


def _bundled(sd: Tensors) -> tuple[str, ...]:
    """Names of the embeddings that lie in the same file; they are their trigger words."""
    found = (match[1] for name in sd if (match := _BUNDLED.match(name)))
    return tuple(dict.fromkeys(found))


def _bundle_sentence(sd: Tensors) -> tuple[str, ...]:
    names = _bundled(sd)
    return (f"it bundles the embeddings {', '.join(names)}",) if names else ()


_LAYOUTS = (
    ("kohya", re.compile(r"^(?:lora_unet_|lora_te|oft_unet_|lora_prior_)")),
    ("onetrainer", re.compile(r"^lora_transformer_")),
    ("lycoris", re.compile(r"^lycoris_")),
    ("xlabs", re.compile(r"\.processor\.\w+_lora\d\.")),
    ("diffusers-old", re.compile(r"\.processor\.|\.lora\.(?:down|up)\.|\.lora_linear_layer\.")),
    ("peft", re.compile(r"\.lora_[AB]\.|\.oft_R\.|\.boft_[Rs]$|\.ia3_l$|\.vera_lambda_")),
    ("comfy", re.compile(r"^(?:diffusion_model|model\.diffusion_model|text_encoders)\.")),
)
"""Naming -> what some name of it looks like; the first that occurs counts."""


def _layout(sd: Tensors) -> str | None:
    occurring = (word for word, pattern in _LAYOUTS if any(map(pattern.search, sd)))
    return next(occurring, None)


def _describe_indexed(sd: StateDict) -> Identity:
    """LoRA of cloneofsimo/lora: numbered pairs, modules known only by their order."""
    named = any(":" in name for name in sd)
    downs = [t for name, t in sd.items() if name.startswith("unet:") and name.endswith(":down")]
    if not named:
        ordered = sorted((int(name), tensor) for name, tensor in sd.items())
        downs = [tensor for number, tensor in ordered if number % 2]
    widths = {t.shape[1] for t in downs if len(t.shape) == 2}
    bases = {BASE_OF_WIDTH[w] for w in widths & {768, 1024, 2048}}
    base = bases.pop() if len(bases) == 1 else Base.UNKNOWN
    ranks = Counter(t.shape[0] for t in downs if t.shape)
    return Identity(
        Kind.LORA,
        base=base,
        layout="cloneofsimo",
        algorithm=("lora",),
        rank=ranks.most_common(1)[0][0] if ranks else None,
        evidence=(
            "pairs of low-rank matrices without module names, as written by cloneofsimo/lora",
            f"input widths {', '.join(map(str, sorted(widths)))}",
        ),
        components=components(sd, lambda n: TEXT_ENCODER if n.startswith("text_") else UNET),
    )


@dataclass(frozen=True, slots=True)
class _NumberedPairs:
    """A list of up/down matrices: even entries (out, r), odd entries (r, in)."""

    def holds(self, tensors: Names) -> bool:
        if len(tensors) < 8 or len(tensors) % 2 or not all(map(_NUMBERED.match, tensors)):
            return False
        ordered = [tensors[name].shape for name in sorted(tensors, key=int)]
        pairs = zip(ordered[::2], ordered[1::2], strict=True)
        return all(
            len(up) == len(down) == 2 and up[1] == down[0] < min(up[0], down[1])
            for up, down in pairs
        )


ROWS = (
    Row(
        "adapter",
        both(
            either(
                most(is_adapter_key),
                matching(r"^(?:lora_unet_|lora_te\d?_|lora_transformer_|lycoris_|oft_unet_)"),
            ),
            no(has_any("lora_controlnet")),
        ),
        _describe,
    ),
    Row(
        "adapter-indexed",
        either(most(lambda name: _INDEXED.match(name) is not None), _NumberedPairs()),
        _describe_indexed,
    ),
)
