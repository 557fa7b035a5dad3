"""Text encoders and image encoders alone, by layer counts and widths.

Source: ComfyUI `comfy/sd.py` (detect_te_model), `comfy/clip_vision.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from converters.bases import Base
from converters.identify.conditions import (
    Condition,
    both,
    either,
    ending,
    has_all,
    has_any,
    has_prefix,
    no,
    within,
)
from converters.identify.counts import components
from converters.identify.identity import Identity
from converters.identify.llama_names import as_transformers
from converters.identify.names import Names
from converters.identify.row import Row
from converters.kinds import Kind
from converters.layouts.components import OTHER, TEXT_ENCODER
from converters.statedict import StateDict


@dataclass(frozen=True, slots=True)
class Encoder:
    """An encoder's word, and the size of one tensor (found by its name's end) that tells it.

    `used_by` are the families with such an encoder; a single one is the base. `vocabulary` is that
    of a language model, where it tells as well.
    """

    word: str
    ending: str
    axis: int = 0
    size: int | None = None
    used_by: tuple[str, ...] = ()
    vocabulary: int | None = None

    def holds(self, names: Names) -> bool:
        """Whether the names are of this encoder."""
        found = names.ending(self.ending)
        if found is None or (self.size is not None and names.size(found, self.axis) != self.size):
            return False
        words = names.ending("embed_tokens.weight") or ""
        return self.vocabulary is None or names.size(words, 0) == self.vocabulary


_CLIP = (
    Encoder("clip-g", "encoder.layers.30.mlp.fc1.weight", used_by=("sdxl", "sd-3")),
    Encoder("clip-h", "encoder.layers.22.mlp.fc1.weight", used_by=("sd-2",)),
    Encoder("long-clip-l", "position_embedding.weight", 0, 248),
    Encoder(
        "clip-l",
        "encoder.layers.0.mlp.fc1.weight",
        1,
        768,
        used_by=("sd-1", "sdxl", "sd-3", "flux"),
    ),
)
_OPENCLIP = (
    Encoder("clip-g", "resblocks.30.ln_1.weight", used_by=("sdxl", "sd-3")),
    Encoder("clip-h", "resblocks.22.ln_1.weight", used_by=("sd-2",)),
    Encoder("clip-l", "resblocks.0.ln_1.weight", 0, 768, ("sd-1", "sdxl", "sd-3", "flux")),
)
_T5_LAST = "encoder.block.23.layer.1.DenseReluDense.wi_1.weight"
_T5_USERS = ("sd-3", "flux", "chroma", "pixart")
_T5_OWN_BIAS = "layer.0.SelfAttention.relative_attention_bias.weight"
_T5 = (
    # umT5 has one in every block, T5 in the first alone.
    Encoder("umt5-xxl", f"encoder.block.23.{_T5_OWN_BIAS}", used_by=("wan",)),
    Encoder("umt5-base", f"encoder.block.1.{_T5_OWN_BIAS}"),
    Encoder("t5-xxl", _T5_LAST, 0, 10240, _T5_USERS),
    Encoder("t5-xl", _T5_LAST, 0, 5120),
    Encoder("t5-xxl-old", "encoder.block.23.layer.1.DenseReluDense.wi.weight"),
    Encoder("byt5-small", "encoder.block.0.layer.0.SelfAttention.k.weight", 0, 384),
    Encoder("t5-base", "encoder.block.0.layer.0.SelfAttention.k.weight"),
)
_WAN_T5 = (Encoder("umt5-xxl", "blocks.23.pos_embedding.embedding.weight", used_by=("wan",)),)
_FUSED = "encoder.layers.0.self_attention.query_key_value.weight"
_CHATGLM = (Encoder("chatglm3-6b", _FUSED, 1, 4096, ("kolors",)),)
_KEYS = "layers.0.self_attn.k_proj.bias"
_NORM = "layers.0.input_layernorm.weight"
_GEMMA = (
    Encoder("gemma-2-2b", _NORM, 0, 2304, ("lumina-2",)),
    Encoder("gemma", _NORM),
)
_LANGUAGE = (
    Encoder("qwen2.5-3b", _KEYS, 0, 256),
    Encoder("qwen2.5-7b", _KEYS, 0, 512, ("qwen-image", "hunyuan-image")),
)
_QWEN3 = (
    Encoder("qwen3-0.6b", _NORM, 0, 1024, ("anima",)),
    Encoder("qwen3-2b", _NORM, 0, 2048),
    Encoder("qwen3-4b", _NORM, 0, 2560, ("z-image", "flux-2")),
    Encoder("qwen3-8b", _NORM, 0, 4096),
)
_LLAMA = (
    Encoder("mistral-24b", _NORM, 0, 5120, ("flux-2",)),
    Encoder("llama-3-8b", _NORM, 0, 4096, ("hidream", "hunyuan-video"), 128256),
)
_VISION = (
    Encoder("clip-vit-l", "patch_embedding.weight", 0, 1024),
    Encoder("clip-vit-h", "patch_embedding.weight", 0, 1280),
    Encoder("clip-vit-g", "patch_embedding.weight", 0, 1664),
    Encoder("siglip-so400m", "patch_embedding.weight", 0, 1152),
    Encoder("clip-vit-l", "visual.class_embedding", 0, 1024),
    Encoder("clip-vit-h", "visual.class_embedding", 0, 1280),
    Encoder("clip-vit-g", "visual.class_embedding", 0, 1664),
)


View = Callable[[Names], Names]


def _as_it_is(names: Names) -> Names:
    return names


def _describe(
    what: str, layout: str, table: tuple[Encoder, ...], sd: StateDict, view: View = _as_it_is
) -> Identity:
    names = view(Names(sd))
    found = next((encoder for encoder in table if encoder.holds(names)), None)
    if found is None and "language model" in what:
        return _other(what, sd)
    users = found.used_by if found else ()
    known = f"the sizes are those of {found.word}" if found else "of sizes that are not known"
    return Identity(
        Kind.TEXT_ENCODER,
        Base(users[0]) if len(users) == 1 else Base.UNKNOWN,
        variant=found.word if found else None,
        layout=layout,
        evidence=(what, known, *([f"it is used by {', '.join(users)}"] if users else [])),
        components=components(sd, lambda _: TEXT_ENCODER),
    )


def _other(what: str, sd: StateDict) -> Identity:
    return Identity(
        Kind.OTHER,
        evidence=(f"{what}, of sizes that no known image model uses",),
        components=components(sd, lambda _: OTHER),
    )


def _vision(sd: StateDict) -> Identity:
    names = Names(sd)
    found = next((encoder for encoder in _VISION if encoder.holds(names)), None)
    return Identity(
        Kind.CLIP_VISION,
        Base.ANY,
        variant=found.word if found else None,
        layout="openclip" if "\nvisual." in names.text else "hf-clip",
        evidence=("the image half of CLIP or SigLIP",),
        components=components(sd, lambda _: OTHER),
    )


_IMAGE_HALF = has_prefix("vision_model.", "visual.")
_GEMMA_MARK = ending("layers.0.post_feedforward_layernorm.weight")
_BIASED = ending("layers.0.self_attn.k_proj.bias")
_QK_NORM = ending("layers.0.self_attn.q_norm.weight")
_LANGUAGE_MODEL = both(
    ending("layers.0.self_attn.k_proj.weight"),
    ending("layers.0.mlp.gate_proj.weight"),
    ending("embed_tokens.weight"),
)


_CLIP_ROWS = (
    Row(
        "text-encoder-clip",
        both(
            ending("encoder.layers.0.mlp.fc1.weight"),
            ending("embeddings.token_embedding.weight"),
            no(_IMAGE_HALF),
        ),
        partial(_describe, "a CLIP text encoder", "hf-clip", _CLIP),
    ),
    Row(
        "text-encoder-openclip",
        both(
            ending("transformer.resblocks.0.ln_1.weight"),
            ending("token_embedding.weight"),
            no(_IMAGE_HALF),
        ),
        partial(_describe, "an OpenCLIP text encoder", "openclip", _OPENCLIP),
    ),
)
_LANGUAGE_ENCODERS: tuple[tuple[str, str, str, tuple[Encoder, ...], Condition], ...] = (
    ("t5", "a T5 encoder", "t5", _T5, ending("encoder.block.0.layer.0.SelfAttention.k.weight")),
    ("gemma", "a Gemma language model", "gemma", _GEMMA, both(_LANGUAGE_MODEL, _GEMMA_MARK)),
    (
        "qwen2",
        *("a Qwen 2 language model", "qwen", _LANGUAGE),
        both(_LANGUAGE_MODEL, _BIASED, no(_GEMMA_MARK)),
    ),
    (
        "qwen3",
        *("a Qwen 3 language model", "qwen", _QWEN3),
        both(_LANGUAGE_MODEL, _QK_NORM, no(_GEMMA_MARK)),
    ),
    (
        "llama",
        *("a language model of the Llama class", "llama", _LLAMA),
        both(_LANGUAGE_MODEL, no(_QK_NORM), no(_BIASED), no(_GEMMA_MARK)),
    ),
)
"""Row name, what it is, its layout, its sizes, and what tells it by transformers' names."""

ROWS = (
    *_CLIP_ROWS,
    *(
        Row(f"text-encoder-{name}", when, partial(_describe, what, layout, table))
        for name, what, layout, table, when in _LANGUAGE_ENCODERS
    ),
    *(
        Row(
            f"text-encoder-{name}-gguf",
            within(as_transformers, when),
            partial(_describe, what, "llama.cpp", table, view=as_transformers),
        )
        for name, what, _, table, when in _LANGUAGE_ENCODERS
    ),
    Row(
        "text-encoder-wan",
        has_all("blocks.0.attn.q.weight", "blocks.0.pos_embedding.embedding.weight"),
        partial(_describe, "a T5 encoder under the names of Wan", "wan", _WAN_T5),
    ),
    Row(
        "text-encoder-chatglm",
        ending(_FUSED),
        partial(_describe, "a ChatGLM language model", "chatglm", _CHATGLM),
    ),
    Row(
        "clip-vision",
        both(
            either(
                has_prefix("vision_model.embeddings.patch_embedding."),
                has_prefix("visual.transformer.resblocks."),
                # transformers 5 leaves the prefix out
                both(has_any("embeddings.patch_embedding.weight"), has_prefix("post_layernorm.")),
            ),
            no(has_prefix("text_model.", "token_embedding.", "transformer.resblocks.")),
            no(has_prefix("text_decoder.", "qformer.")),
            no(has_any("logit_scale")),
            no(_LANGUAGE_MODEL),
        ),
        _vision,
    ),
)

NAMES = frozenset(row.name for row in ROWS)
"""Names of the rows of encoders."""
