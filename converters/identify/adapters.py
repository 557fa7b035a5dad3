"""LoRA files and their relatives: algorithm by suffix, family by widths.

Sources: kohya-ss/sd-scripts `networks/lora.py`, KohakuBlueleaf/LyCORIS, huggingface/peft and
diffusers, cloneofsimo/lora; ComfyUI `comfy/lora.py` and `comfy/weight_adapter`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from converters.identify.conditions import Tensors, both, either, has_any, matching, no
from converters.identify.counts import components
from converters.identify.identity import (
    BASE_OF_WIDTH,
    CERTAIN,
    SHARED,
    Base,
    Identity,
    Kind,
    Prediction,
)
from converters.identify.row import Row
from converters.identify.trigger_words import trigger_words
from converters.layouts.components import OTHER, TEXT_ENCODER, UNET
from converters.statedict import LazyTensor, StateDict

_SUFFIX = re.compile(
    r"\.(?P<role>lora_down\.weight|lora_up\.weight|lora_mid\.weight|alpha|dora_scale"
    r"|lora_[AB](?:\.default)?\.weight|lora_magnitude_vector(?:\.weight)?"
    r"|lora\.(?:down|up)\.weight|lora_linear_layer\.(?:down|up)\.weight"
    r"|processor\.to_\w+_lora\.(?:down|up)\.weight"
    r"|hada_w[12]_[ab]|hada_t[12]|lokr_w[12](?:_[ab])?|lokr_t[12]"
    r"|on_input|ia3_l|[ab][12]\.weight|oft_blocks|oft_diag|oft_R\.weight|boft_[Rs]"
    r"|diff|diff_b|w_norm|b_norm)$"
)
_ALGORITHMS = (
    ("hada_", "loha"),
    ("lokr_", "lokr"),
    ("on_input", "ia3"),
    ("ia3_l", "ia3"),
    ("oft_R", "oft"),
    ("oft_diag", "oft"),
    ("boft_", "boft"),
    ("w_norm", "norm"),
    ("b_norm", "norm"),
    ("diff", "full"),
    ("dora_scale", "dora"),
    ("lora_magnitude_vector", "dora"),
    ("lora_mid", "locon"),
)
_GLORA = re.compile(r"[ab][12]\.weight")
_DOWN = re.compile(
    r"(?:lora_down|lora_A(?:\.default)?|lora\.down|lora_linear_layer\.down)\.weight$"
)
_OLD_DOWN = re.compile(r"processor\.to_\w+_lora\.down\.weight$")
_CONTEXT_MODULE = re.compile(r"attn2(?:_|\.|\.processor\.)to_[kv](?:_lora)?$")
_HIDDEN_STATE = re.compile(r"(?:[qkv]_proj|fc1)$")
_INDEXED = re.compile(r"^(?:unet|text_encoder):\d+:(?:up|down)$")
_NUMBERED = re.compile(r"^\d+$")
_STRUCTURE_OF_SD1_AND_SD2 = re.compile(r"(?:down_blocks_0_attentions_|down_blocks_3_|up_blocks_3_)")


@dataclass(frozen=True, slots=True)
class _Key:
    """An adapter tensor's name in two parts: the module it changes, and its role there."""

    module: str
    role: str
    tensor: LazyTensor


def _keys(sd: Tensors) -> Iterator[_Key]:
    for name, tensor in sd.items():
        if match := _SUFFIX.search(name):
            yield _Key(_module(name, match), match["role"], tensor)


def _module(name: str, match: re.Match[str]) -> str:
    old = re.match(r"processor\.(to_\w+)_lora\.", match["role"])
    return f"{name[: match.start()]}.{old[1]}" if old else name[: match.start()]


def _describe(sd: StateDict) -> Identity:
    keys = list(_keys(sd))
    base, confidence, reasons = _base(sd, keys)
    algorithms = _algorithms(keys)
    ranks = Counter(k.tensor.shape[0] for k in keys if _is_down(k) and k.tensor.shape)
    return Identity(
        Kind.LORA,
        base=base,
        prediction=Prediction.UNKNOWN,
        layout=_layout(sd),
        algorithm=algorithms,
        rank=ranks.most_common(1)[0][0] if ranks else None,
        confidence=confidence,
        evidence=(
            _size_sentence(sd, keys),
            *reasons,
            *_rank_sentence(ranks),
        ),
        components=components(sd, _component),
        trigger_words=trigger_words(sd.metadata),
    )


def _size_sentence(sd: Tensors, keys: list[_Key]) -> str:
    modules = len({key.module for key in keys})
    return f"{len(keys)} of {len(sd)} tensors belong to {modules} adapter modules"


def _is_down(key: _Key) -> bool:
    return bool(_DOWN.match(key.role) or _OLD_DOWN.match(key.role))


def _rank_sentence(ranks: Counter[int]) -> tuple[str, ...]:
    if len(ranks) < 2:
        return ()
    return (f"ranks differ between modules: {', '.join(map(str, sorted(ranks)))}",)


def _algorithms(keys: list[_Key]) -> tuple[str, ...]:
    found = {algorithm for key in keys for algorithm in _algorithm(key)}
    if "locon" in found:
        found.discard("lora")
    return tuple(sorted(found))


def _algorithm(key: _Key) -> Iterator[str]:
    if key.role == "oft_blocks":
        yield "boft" if len(key.tensor.shape) == 4 else "oft"
    elif _GLORA.fullmatch(key.role):
        yield "glora"
    elif _is_down(key):
        yield "locon" if any(size > 1 for size in key.tensor.shape[2:]) else "lora"
    yield from (word for start, word in _ALGORITHMS if key.role.startswith(start))


def _layout(sd: Tensors) -> str:
    if any(name.startswith(("lora_unet_", "lora_te")) for name in sd):
        return "kohya"
    if any(".processor." in name or ".lora.down." in name for name in sd):
        return "diffusers-old"
    if any(name.startswith("lycoris_") for name in sd):
        return "lycoris"
    return "peft"


_TEXT_NAME = re.compile(r"^(?:lora_te\d?_|text_encoder|lycoris_text_)|(?:^|\.)text_model\.")


def _component(name: str) -> str:
    if _TEXT_NAME.search(name):
        return TEXT_ENCODER
    if re.match(r"lora_unet_|unet[.:]|lycoris_|(?:down|mid|up)_blocks?\.|transformer\.\w", name):
        return UNET
    return OTHER


def _base(sd: Tensors, keys: list[_Key]) -> tuple[Base, float, tuple[str, ...]]:
    """The family, how sure, and the sentences that say why.

    In order: the width of the text context; names that only one family has; a text encoder alone;
    the structure that only SD1 and SD2 have.
    """
    rules = (_by_context, _by_name, _by_text_encoder, _by_structure)
    answers = (answer for rule in rules for answer in [rule(sd, keys)] if answer is not None)
    return next(answers, (Base.UNKNOWN, CERTAIN, ("no module of a known image model",)))


_Answer = tuple[Base, float, tuple[str, ...]] | None


def _by_context(sd: Tensors, keys: list[_Key]) -> _Answer:
    widths = {
        width: key.module
        for key in keys
        if _CONTEXT_MODULE.search(key.module)
        for width in [_input_width(key, sd)]
        if width is not None
    }
    if not widths:
        return None
    said = tuple(f"{module} takes a context of width {w}" for w, module in sorted(widths.items()))
    bases = {BASE_OF_WIDTH.get(width, Base.UNKNOWN) for width in widths}
    if len(bases) != 1 or Base.UNKNOWN in bases:
        return Base.UNKNOWN, CERTAIN, (*said, "these widths fit no single known family")
    return bases.pop(), CERTAIN, said


def _input_width(key: _Key, sd: Tensors) -> int | None:
    shape = key.tensor.shape
    if len(shape) < 2:
        return None
    if _is_down(key) or key.role in ("hada_w1_b", "diff", "a2.weight"):
        return shape[1]
    if key.role in ("lokr_w1", "lokr_w1_b"):
        second = _first(sd, f"{key.module}.lokr_w2", f"{key.module}.lokr_w2_b")
        return None if second is None else shape[1] * second.shape[1]
    return None


def _first(sd: Tensors, *names: str) -> LazyTensor | None:
    return next((sd[n] for n in names if n in sd and len(sd[n].shape) >= 2), None)


_NAMES = (
    (
        re.compile(r"^lora_unet_(?:input_blocks|output_blocks)_\d+_\d+_transformer_blocks_[2-9]"),
        Base.SDXL,
    ),
    (re.compile(r"^lora_te2_text_model_"), Base.SDXL),
    (re.compile(r"^lora_unet_joint_blocks_"), Base.SD3),
)
_FLUX = re.compile(r"(?:lora_unet_|diffusion_model\.)double_blocks[._]\d+[._]img_attn[._]proj$")


def _by_name(sd: Tensors, keys: list[_Key]) -> _Answer:
    for pattern, base in _NAMES:
        if found := next((key.module for key in keys if pattern.search(key.module)), None):
            return base, CERTAIN, (f"{found} occurs only in {base.label}",)
    for key in keys:
        if _FLUX.search(key.module) and _input_width(key, sd) == 3072:
            return Base.FLUX, CERTAIN, (f"{key.module} has the width 3072 of Flux",)
    return None


def _by_text_encoder(sd: Tensors, keys: list[_Key]) -> _Answer:
    """Only text-encoder modules: their width, where the naming does not point elsewhere."""
    text = [key for key in keys if re.search(r"text_model[._]encoder[._]layers", key.module)]
    if not text or any(_component(key.module) != TEXT_ENCODER for key in keys):
        return None
    width = _text_width(sd, text)
    if width not in (768, 1024):
        return None
    base = BASE_OF_WIDTH[width]
    said = f"only text-encoder modules, of width {width}"
    if all(key.module.startswith("lora_te_") for key in text):
        return base, CERTAIN, (f"{said}, named lora_te_ as for {base.label}",)
    if width == 768 and not any(re.match(r"lora_te\d", key.module) for key in text):
        return base, SHARED, (f"{said}, as in SD1; SDXL and Flux have the same encoder",)
    return None


def _text_width(sd: Tensors, keys: list[_Key]) -> int | None:
    """The width of a text encoder, from a module that takes its hidden state."""
    widths = (_input_width(key, sd) for key in keys if _HIDDEN_STATE.search(key.module))
    return next((width for width in widths if width is not None), None)


def _by_structure(sd: Tensors, keys: list[_Key]) -> _Answer:
    """UNet modules without cross-attention: the text encoder of the same file decides."""
    found = next((k.module for k in keys if _STRUCTURE_OF_SD1_AND_SD2.search(k.module)), None)
    width = _text_width(sd, [key for key in keys if key.module.startswith("lora_te_")])
    if found is None:
        return None
    if width in (768, 1024):
        said = f"its text-encoder modules have width {width}"
        return BASE_OF_WIDTH[width], CERTAIN, (f"{found} occurs only in SD1 and SD2", said)
    return Base.UNKNOWN, CERTAIN, (f"{found} occurs in SD1 and SD2; no width tells them apart",)


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

    def holds(self, tensors: Tensors) -> bool:
        if len(tensors) < 8 or len(tensors) % 2 or not all(map(_NUMBERED.match, tensors)):
            return False
        ordered = [tensors[name].shape for name in sorted(tensors, key=int)]
        pairs = zip(ordered[::2], ordered[1::2], strict=True)
        return all(
            len(up) == len(down) == 2 and up[1] == down[0] < min(up[0], down[1])
            for up, down in pairs
        )


_CONTROL_LORA = has_any("lora_controlnet")

ROWS = (
    Row(
        "adapter",
        both(
            either(
                matching(_SUFFIX.pattern.replace("?P<role>", "?:"), share=0.5),
                matching(r"^(?:lora_unet_|lora_te\d?_|lycoris_)"),
            ),
            no(_CONTROL_LORA),
        ),
        _describe,
    ),
    Row(
        "adapter-indexed",
        either(matching(_INDEXED.pattern, share=0.5), _NumberedPairs()),
        _describe_indexed,
    ),
)
