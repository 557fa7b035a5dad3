"""The model family an adapter was made for: by the text context it takes, names and widths.

Sources: kohya-ss/sd-scripts `networks/`, ComfyUI `comfy/lora.py`, invoke-ai/InvokeAI
`configs/lora.py`, huggingface/diffusers `loaders/lora_conversion_utils.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from converters.bases import BASE_OF_WIDTH, Base
from converters.identify.adapter_keys import (
    Key,
    Tensors,
    adapter_keys,
    component_of_key,
    is_down,
)
from converters.identify.identity import CERTAIN, SHARED
from converters.layouts.components import TEXT_ENCODER
from converters.statedict import LazyTensor

_PREFIX = re.compile(
    r"^(?:lora_unet__?|lora_transformer_|lycoris_|oft_unet_|base_model\.model\.|unet\."
    r"|model\.diffusion_model\.|diffusion_model\.|transformer\.)+"
)
_UNET_PATH = re.compile(r"^(?:down_blocks|up_blocks|mid_block|input_|middle_block|output_)")
_CONTEXT_MODULE = re.compile(r"attn2_(?:processor_)?to_[kv]$")
_HIDDEN_STATE = re.compile(r"(?:[qkv]_proj|fc1)$")
_STRUCTURE_OF_SD1_AND_SD2 = re.compile(
    r"^(?:down_blocks_0_attentions_|down_blocks_3_|up_blocks_3_"
    r"|input_blocks_[12]_1_|output_blocks_(?:9|10|11)_1_)"
)


@dataclass(frozen=True, slots=True)
class Rule:
    """A pattern of module paths (prefix off, dots as underscores) that only some families have.

    `inputs` are the widths the module may take, `outputs` those it may give, empty for any.
    `others` are families that have the same: then the answer is less sure.
    """

    pattern: re.Pattern[str]
    base: Base
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    others: tuple[Base, ...] = ()


def _rule(
    pattern: str,
    base: Base,
    *,
    inputs: tuple[int, ...] = (),
    outputs: tuple[int, ...] = (),
    others: tuple[Base, ...] = (),
) -> Rule:
    return Rule(re.compile(pattern, re.MULTILINE), base, inputs, outputs, others)


_DOUBLE = r"^double_blocks_\d+_(?:img|txt)_(?:attn|mlp|mod)"
_QKV = r"^double_blocks_\d+_(?:img|txt)_attn_(?:qkv|proj)$"
_JOINT = r"^transformer_blocks_\d+_attn_(?:to_[qkv]|add_[qkv]_proj)$"
_CROSSING = r"^transformer_blocks_\d+_attn[12]_to_q$"

RULES = (
    _rule(r"^joint_blocks_\d+_(?:x|context)_block_", Base.SD3),
    _rule(r"attentions_\d+_transformer_blocks_[2-9]_", Base.SDXL),
    _rule(r"^(?:input|middle|output)_blocks?_(?:\d+_)+transformer_blocks_[2-9]_", Base.SDXL),
    _rule(
        r"^input_blocks_[4578]_1_|^output_blocks_[0-5]_1_", Base.SDXL, others=(Base.SD1, Base.SD2)
    ),
    _rule(r"^distilled_guidance_layer_", Base.CHROMA),
    # HunyuanVideo has one double and two single blocks more than Flux, and another modulation.
    _rule(r"^(?:double_blocks_19_|single_blocks_3[89]_)", Base.HUNYUAN_VIDEO, inputs=(3072,)),
    _rule(r"^single_transformer_blocks_3[89]_", Base.HUNYUAN_VIDEO, inputs=(3072,)),
    _rule(r"^(?:double|single)_blocks_\d+_(?:\w+_mod|modulation)_linear$", Base.HUNYUAN_VIDEO),
    _rule(_DOUBLE, Base.FLUX2, inputs=(4096, 6144)),
    _rule(r"^double_blocks_\d+_(?:img|txt)_mlp_0$", Base.FLUX2, inputs=(3072,), outputs=(18432,)),
    _rule(r"^single_blocks_\d+_linear1$", Base.FLUX2, inputs=(3072,), outputs=(27648,)),
    _rule(r"^double_blocks_\d+_(?:img|txt)_mod_lin$", Base.FLUX, inputs=(3072,)),
    _rule(r"^single_blocks_\d+_modulation_lin$", Base.FLUX, inputs=(3072,)),
    _rule(_QKV, Base.FLUX, inputs=(3072,), others=(Base.CHROMA,)),
    _rule(r"^single_blocks_\d+_linear1$", Base.FLUX, inputs=(3072,), others=(Base.CHROMA,)),
    _rule(r"^double_blocks_\d+_(?:qkv|proj)[12]?$", Base.FLUX, inputs=(3072,)),  # XLabs
    _rule(r"^single_transformer_blocks_\d+_attn_to_qkv_mlp_proj$", Base.FLUX2),
    _rule(r"^joint_transformer_blocks_\d+_|^double_layers_\d+_", Base.AURAFLOW),
    _rule(r"^single_transformer_blocks_\d+_norm_linear$", Base.FLUX, inputs=(3072,)),
    _rule(
        r"^single_transformer_blocks_\d+_(?:attn_to_[qkv]|proj_\w+)$",
        Base.FLUX,
        inputs=(3072,),
        others=(Base.CHROMA, Base.HUNYUAN_VIDEO),
    ),
    _rule(r"^transformer_blocks_\d+_(?:img|txt)_(?:mlp|mod)_", Base.QWEN_IMAGE),
    # Of the families with such blocks, of this width, it alone has more than twenty.
    _rule(_JOINT.replace(r"\d+", r"[2-5]\d"), Base.QWEN_IMAGE, inputs=(3072,)),
    _rule(_JOINT, Base.SD3, inputs=(1536, 2432)),
    _rule(_JOINT, Base.FLUX2, inputs=(4096, 6144)),
    _rule(
        _JOINT,
        Base.FLUX,
        inputs=(3072,),
        others=(Base.FLUX2, Base.CHROMA, Base.HUNYUAN_VIDEO, Base.QWEN_IMAGE),
    ),
    _rule(r"^transformer_blocks_\d+_attn1_add_[qkv]_proj$", Base.MOCHI),
    _rule(r"^blocks_\d+_attn_(?:qkv|proj)_[xy]$", Base.MOCHI),
    _rule(r"^transformer_blocks_\d+_ff_conv_(?:inverted|point)$", Base.SANA),
    _rule(_CROSSING, Base.LTX, inputs=(2048,)),
    _rule(_CROSSING, Base.LTX2, inputs=(4096,)),
    _rule(_CROSSING, Base.SANA, inputs=(2240,)),
    _rule(_CROSSING, Base.PIXART, inputs=(1152,), others=(Base.SANA,)),
    _rule(_CROSSING, Base.COGVIDEOX, inputs=(1920, 3072)),
    _rule(r"^blocks_\d+_(?:self|cross)_attn_[qkvo](?:_img)?$|^vace_blocks_\d+_", Base.WAN),
    _rule(r"^blocks_\d+_attn[12]_to_[qkv]$", Base.WAN, inputs=(1536, 3072, 5120)),
    _rule(r"^blocks_\d+_attn[12]_to_[qkv]$", Base.HUNYUAN_DIT, inputs=(1408,)),
    _rule(r"^llm_adapter_|^lora_unet_blocks_\d+_(?:self|cross)_attn_output_proj$", Base.ANIMA),
    _rule(r"^lora_unet_blocks_\d+_(?:self|cross)_attn_[qkv]_proj$", Base.ANIMA),
    _rule(
        r"^blocks_\d+_(?:(?:self|cross)_attn_(?:[qkv]|output)_proj|mlp_layer[12])$",
        Base.ANIMA,
        others=(Base.COSMOS2,),
    ),
    _rule(r"^blocks_\d+_attn_w[qkvo]$|^txtfusion_", Base.KREA2),
    _rule(r"^blocks_\d+_attn[12]_(?:Wqkv|q_proj|kv_proj)$", Base.HUNYUAN_DIT),
    _rule(r"^layers_\d+_(?:attention|feed_forward)_", Base.Z_IMAGE, inputs=(3840,)),
    _rule(r"^layers_\d+_(?:attention|attn|feed_forward)_", Base.LUMINA2, inputs=(2304,)),
    _rule(r"^layers_\d+_(?:attn|feed_forward)_", Base.OMNIGEN2, inputs=(2520,)),
    _rule(r"^(?:double|single)_stream_blocks_\d+_block_", Base.HIDREAM),
    _rule(r"^(?:visual|text)_transformer_blocks_\d+_", Base.KANDINSKY5),
    _rule(r"^lora_prior_unet_", Base.CASCADE),
    _rule(r"^lora_te2_text_model_", Base.SDXL, others=(Base.SD3,)),
)
"""Families that a name, or a name and a width, tells; the first rule that fits counts.

A pattern that begins with a prefix is one of whole module names.
"""

_STATED = (
    *(("sd_v1", Base.SD1), ("sd_v2", Base.SD2), ("sdxl", Base.SDXL), ("sd3", Base.SD3)),
    *(("flux2", Base.FLUX2), ("flux1", Base.FLUX), ("lumina2", Base.LUMINA2)),
    *(("chroma", Base.CHROMA), ("anima", Base.ANIMA), ("krea2", Base.KREA2)),
    *(("hunyuan_image", Base.HUNYUAN_IMAGE), ("hunyuan_video", Base.HUNYUAN_VIDEO)),
    *(("qwen_image", Base.QWEN_IMAGE), ("zimage", Base.Z_IMAGE), ("wan", Base.WAN)),
    ("stable-diffusion-v1", Base.SD1),
    ("stable-diffusion-v2", Base.SD2),
    ("stable-diffusion-xl-v1-refiner", Base.SDXL_REFINER),
    *(("stable-diffusion-xl", Base.SDXL), ("stable-diffusion-v3", Base.SD3)),
    *(("stable-diffusion-3", Base.SD3), ("flux-1", Base.FLUX), ("lumina-2", Base.LUMINA2)),
    *(("hunyuan-image", Base.HUNYUAN_IMAGE), ("stable-cascade", Base.CASCADE)),
)
"""Beginnings of what trainers write into `ss_base_model_version` and `modelspec.architecture`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The family, how sure, and the sentences that say why; `others` may be meant as well."""

    base: Base
    confidence: float = CERTAIN
    evidence: tuple[str, ...] = ()
    others: tuple[Base, ...] = ()


@dataclass(frozen=True, slots=True)
class _Modules:
    """The modules of an adapter: each one's keys, and its path without prefix."""

    sd: Tensors
    keys: dict[str, list[Key]]
    paths: dict[str, str]

    @classmethod
    def of(cls, sd: Tensors, keys: list[Key]) -> _Modules:
        grouped: dict[str, list[Key]] = {}
        for key in keys:
            grouped.setdefault(key.module, []).append(key)
        return cls(sd, grouped, {module: path_of(module) for module in grouped})

    def takes(self, module: str) -> set[int]:
        """The widths that a module's tensors show it to take."""
        widths = (input_width(key, self.sd) for key in self.keys[module])
        return {width for width in widths if width is not None}

    def gives(self, module: str) -> set[int]:
        """The widths that a module's tensors show it to give."""
        widths = (output_width(key, self.sd) for key in self.keys[module])
        return {width for width in widths if width is not None}


def path_of(module: str) -> str:
    """A module's path in the denoiser: prefix off, dots as underscores."""
    return _PREFIX.sub("", module).replace(".", "_")


def base_family(sd: Tensors, keys: list[Key], metadata: Mapping[str, str]) -> Answer:
    """The family of an adapter, how sure, and why.

    In order: the width of the text context; names and widths that only one family has; a text
    encoder alone; the structure that only SD1 and SD2 have; at last what the metadata says, which
    may be wrong, so that shapes win.
    """
    modules = _Modules.of(sd, keys)
    rules = (_by_context, _by_rule, _by_text_encoder, _by_structure)
    answers = (answer for rule in rules for answer in [rule(modules)] if answer is not None)
    found = next(answers, Answer(Base.UNKNOWN, evidence=("no module of a known image model",)))
    return _beside_metadata(found, metadata)


def _beside_metadata(found: Answer, metadata: Mapping[str, str]) -> Answer:
    stated = stated_base(metadata)
    if stated is None:
        return found
    key, base = stated
    if base is found.base or base in found.others:
        return Answer(base, CERTAIN, (*found.evidence, f"{key} says {base.label}"))
    if found.base is Base.UNKNOWN:
        said = f"only {key} says that it is for {base.label}"
        return Answer(base, SHARED, (*found.evidence, said))
    said = f"{key} says {base.label}, which its tensors contradict"
    return Answer(found.base, found.confidence, (*found.evidence, said))


def stated_base(metadata: Mapping[str, str]) -> tuple[str, Base] | None:
    """The metadata key that names a family, and the family."""
    for key in ("ss_base_model_version", "modelspec.architecture"):
        text = metadata.get(key, "").lower()
        for start, base in _STATED:
            if text.startswith(start):
                return key, base
    return None


def _by_context(modules: _Modules) -> Answer | None:
    widths = {
        width: module
        for module, path in modules.paths.items()
        if _CONTEXT_MODULE.search(path) and _UNET_PATH.match(path)
        for width in modules.takes(module)
    }
    if not widths:
        return None
    said = tuple(f"{module} takes a context of width {w}" for w, module in sorted(widths.items()))
    bases = {BASE_OF_WIDTH.get(width, Base.UNKNOWN) for width in widths}
    if len(bases) != 1 or Base.UNKNOWN in bases:
        return Answer(Base.UNKNOWN, evidence=(*said, "these widths fit no single known family"))
    return Answer(bases.pop(), evidence=said)


def _by_rule(modules: _Modules) -> Answer | None:
    lines = {path: module for module, path in modules.paths.items()}
    lines |= {module: module for module in modules.paths}
    text = "\n".join(["", *lines, ""])
    for rule in RULES:
        for match in rule.pattern.finditer(text):
            module = lines.get(_line_at(text, match.start()))
            if module is not None and _sizes_fit(rule, modules, module):
                return _answer(rule, module)
    return None


def _line_at(text: str, position: int) -> str:
    return text[text.rfind("\n", 0, position) + 1 : text.index("\n", position)]


def _sizes_fit(rule: Rule, modules: _Modules, module: str) -> bool:
    takes, gives = set(rule.inputs), set(rule.outputs)
    return (not takes or bool(takes & modules.takes(module))) and (
        not gives or bool(gives & modules.gives(module))
    )


def _answer(rule: Rule, module: str) -> Answer:
    width = f" and takes the width {rule.inputs[0]}" if len(rule.inputs) == 1 else ""
    said = f"{module} is named as in {rule.base.label}{width}"
    if not rule.others:
        return Answer(rule.base, evidence=(said,))
    shared = f"such names occur in {' and '.join(rule.others)} too"
    return Answer(rule.base, SHARED, (said, shared), rule.others)


def input_width(key: Key, sd: Tensors) -> int | None:
    """How many features the module takes, if this tensor shows it."""
    shape = key.tensor.shape
    if len(shape) < 2:
        return None
    if is_down(key) or key.role in ("hada_w1_b", "diff", "set_weight"):
        return shape[1]
    if key.role == "a2.weight":
        return max(shape)  # (rank, in), or (in, rank) in the older layout
    if key.role in ("lokr_w1", "lokr_w1_b"):
        second = _first(sd, f"{key.module}.lokr_w2", f"{key.module}.lokr_w2_b")
        return None if second is None else shape[1] * second.shape[1]
    return None


def output_width(key: Key, sd: Tensors) -> int | None:
    """How many features the module gives, if this tensor shows it."""
    shape = key.tensor.shape
    if len(shape) < 2:
        return None
    if key.role in ("hada_w1_a", "diff", "set_weight") or (
        key.role.endswith(("up.weight",)) or key.role.startswith("lora_B")
    ):
        return shape[0]
    if key.role in ("lokr_w1", "lokr_w1_a"):
        second = _first(sd, f"{key.module}.lokr_w2", f"{key.module}.lokr_w2_a")
        return None if second is None else shape[0] * second.shape[0]
    return None


def _first(sd: Tensors, *names: str) -> LazyTensor | None:
    return next((sd[n] for n in names if n in sd and len(sd[n].shape) >= 2), None)


def _by_text_encoder(modules: _Modules) -> Answer | None:
    """Only text-encoder modules: their width, where the naming does not point elsewhere."""
    text = [m for m in modules.keys if re.search(r"text_model[._]encoder[._]layers", m)]
    if not text or any(component_of_key(module) != TEXT_ENCODER for module in modules.keys):
        return None
    width = _text_width(modules, text)
    if width not in (768, 1024):
        return None
    base = BASE_OF_WIDTH[width]
    said = f"only text-encoder modules, of width {width}"
    if all(module.startswith("lora_te_") for module in text):
        return Answer(base, evidence=(f"{said}, named lora_te_ as for {base.label}",))
    if width == 768 and not any(re.match(r"lora_te\d", module) for module in text):
        return Answer(base, SHARED, (f"{said}, as in SD1; SDXL and Flux have the same encoder",))
    return None


def _text_width(modules: _Modules, text: list[str]) -> int | None:
    """The width of a text encoder, from a module that takes its hidden state."""
    inner = (module for module in text if _HIDDEN_STATE.search(module))
    return next((width for module in inner for width in modules.takes(module)), None)


def is_of_sd1_or_sd2(sd: Tensors) -> bool:
    """Whether an adapter has modules of a UNet that only SD1 and SD2 have, by the same names."""
    modules = {key.module: path_of(key.module) for key in adapter_keys(sd)}
    return _in_sd1_and_sd2(modules) is not None


def _in_sd1_and_sd2(paths: Mapping[str, str]) -> str | None:
    return next((m for m, path in paths.items() if _STRUCTURE_OF_SD1_AND_SD2.search(path)), None)


def _by_structure(modules: _Modules) -> Answer | None:
    """UNet modules without cross-attention: the text encoder of the same file decides."""
    found = _in_sd1_and_sd2(modules.paths)
    if found is None:
        return None
    width = _text_width(modules, [m for m in modules.keys if m.startswith("lora_te_")])
    if width in (768, 1024):
        said = f"its text-encoder modules have width {width}"
        return Answer(BASE_OF_WIDTH[width], evidence=(f"{found} occurs only in SD1 and SD2", said))
    said = f"{found} occurs in SD1 and SD2; no width tells them apart"
    return Answer(Base.UNKNOWN, evidence=(said,))
