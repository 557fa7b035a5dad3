"""Whether an adapter fits a checkpoint: which of its modules find a weight, and what is left over.

Only names and shapes are compared, in every spelling that trainers use, so that the answer covers
families and algorithms that cannot be merged. Sources of the spellings: kohya-ss/sd-scripts
`networks/`, huggingface/diffusers and peft; mlfoundations/open_clip for fused projections.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from converters.bases import Base
from converters.errors import CorruptFile
from converters.identify import identify
from converters.identify.adapter_family import input_width, output_width, path_of
from converters.identify.adapter_keys import Key, adapter_keys
from converters.identify.identity import Identity, Kind
from converters.identify.names import Names
from converters.layouts.sd_unet import diffusers_skeleton, ldm_skeleton
from converters.statedict import StateDict

Place = tuple[str, str]
"""A component (`unet`, `te1`, `te2`, `te3`) and a module path in it, dots as underscores."""

_ENCODERS = (
    (re.compile(r"^(?:lora_te1?_|text_encoder\.|text_encoders\.clip_l\.transformer\.)"), "te1"),
    (re.compile(r"^base_model\.model\.(?=text_model\.)"), "te1"),
    (re.compile(r"^(?:lora_te2_|text_encoder_2\.|text_encoders\.clip_g\.transformer\.)"), "te2"),
    (re.compile(r"^(?:lora_te3_|text_encoder_3\.|text_encoders\.t5xxl\.transformer\.)"), "te3"),
)
"""Prefixes of modules of text encoders."""

_HELD = (
    (re.compile(r"^cond_stage_model\.(?:transformer\.|model\.)"), ("te1",)),
    (re.compile(r"^conditioner\.embedders\.0\.transformer\."), ("te1",)),
    (re.compile(r"^conditioner\.embedders\.1\.model\."), ("te2",)),
    (re.compile(r"^conditioner\.embedders\.0\.model\."), ("te1", "te2")),  # the refiner's only one
    (re.compile(r"^text_encoders\.clip_l\.transformer\."), ("te1",)),
    (re.compile(r"^text_encoders\.clip_g\.transformer\."), ("te2",)),
    (re.compile(r"^text_encoders\.t5xxl\.transformer\."), ("te2", "te3")),
)
"""Prefixes of text encoders in a checkpoint, and what trainers call them."""

_OPENCLIP = re.compile(r"^transformer\.resblocks\.(\d+)\.(.+)$")
_PARTS = {
    "attn.in_proj_weight": ("self_attn_q_proj", "self_attn_k_proj", "self_attn_v_proj"),
    "attn.out_proj.weight": ("self_attn_out_proj",),
    "mlp.c_fc.weight": ("mlp_fc1",),
    "mlp.c_proj.weight": ("mlp_fc2",),
}
"""Tensors of an OpenCLIP block -> the modules of transformers' CLIP that they are."""

_MODELS = (Kind.CHECKPOINT, Kind.DIFFUSION_MODEL)
_OF_A_FAMILY = (Kind.EMBEDDING, Kind.HYPERNETWORK, Kind.CONTROLNET, Kind.IP_ADAPTER, Kind.VAE)


@dataclass(frozen=True, slots=True)
class Compatibility:
    """Whether an adapter fits, why, and how much of it.

    `fits` is None when names and shapes cannot tell. `modules` counts those that find their weight,
    `changed` names the checkpoint's tensors they would change, `unused` the adapter's keys that
    find no place.
    """

    fits: bool | None
    reason: str
    modules: int = 0
    changed: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Weight:
    """A tensor of the checkpoint, and its sizes (out, in) as the module sees them."""

    name: str
    out: int
    inner: int | None


def compatibility(adapter: StateDict, checkpoint: StateDict) -> Compatibility:
    """Whether `adapter` fits `checkpoint`. Reads no tensor data and never raises."""
    ours, theirs = identify(adapter), identify(checkpoint)
    if theirs.kind not in _MODELS:
        return Compatibility(False, f"it is of kind {theirs.kind}, not a checkpoint")
    if ours.kind in _OF_A_FAMILY:
        return _by_family(ours, theirs)
    if ours.kind is not Kind.LORA:
        return Compatibility(False, f"a file of kind {ours.kind} changes no checkpoint")
    if ours.layout == "cloneofsimo":
        return Compatibility(None, "its modules have no names, only an order")
    return _by_modules(adapter, checkpoint, ours, theirs)


def _by_family(ours: Identity, theirs: Identity) -> Compatibility:
    if Base.UNKNOWN in (ours.base, theirs.base):
        return Compatibility(None, "names and shapes do not tell the families of both")
    if ours.base is theirs.base:
        return Compatibility(True, f"both are {ours.base.label}")
    return Compatibility(False, _apart(ours, theirs))


def _apart(ours: Identity, theirs: Identity) -> str:
    return f"made for {ours.base.label}, the checkpoint is {theirs.base.label}"


def _by_modules(
    adapter: StateDict, checkpoint: StateDict, ours: Identity, theirs: Identity
) -> Compatibility:
    weights = dict(_weights(checkpoint))
    modules: dict[str, list[Key]] = {}
    for key in adapter_keys(adapter):
        modules.setdefault(key.module, []).append(key)
    found = {module: weights[place_of(module)] for module in modules if place_of(module) in weights}
    misfit = _first_misfit(adapter, modules, found)
    fitting = {m: w for m, w in found.items() if _has_size(adapter, modules[m], w)}
    changed = tuple(dict.fromkeys(weight.name for weight in fitting.values()))
    used = {key.name for module in fitting for key in modules[module]}
    # The weight of (IA)3 has no word of its own: it belongs to the module before its last dot.
    unused = tuple(n for n in adapter if n not in used and n.rpartition(".")[0] not in fitting)
    fits, reason = _verdict(ours, theirs, len(fitting), len(modules), misfit)
    return Compatibility(fits, reason, len(fitting), changed, unused)


def _verdict(
    ours: Identity, theirs: Identity, fitting: int, modules: int, misfit: str | None
) -> tuple[bool | None, str]:
    bases = (ours.base, theirs.base)
    if Base.UNKNOWN not in bases and ours.base is not theirs.base:
        return False, _apart(ours, theirs)
    if misfit is not None:
        return False, misfit
    if not fitting and Base.UNKNOWN not in bases:
        said = "but its modules and the checkpoint's are named in different ways"
        return None, f"both are {ours.base.label}, {said}"
    if not fitting:
        return False, "none of its modules is in the checkpoint"
    if fitting < modules:
        return True, f"{modules - fitting} of its {modules} modules find no weight"
    return True, f"all of its {modules} modules find their weight"


def place_of(module: str) -> Place:
    """Where a module of an adapter belongs, whatever its trainer's spelling."""
    for prefix, encoder in _ENCODERS:
        if match := prefix.match(module):
            return encoder, _text_path(module[match.end() :])
    return "unet", path_of(module)


def _text_path(path: str) -> str:
    return path.replace(".", "_").removeprefix("text_model_")


def _weights(checkpoint: StateDict) -> Iterator[tuple[Place, _Weight]]:
    """Every weight of the checkpoint, under every place it may be called."""
    names = Names(checkpoint)
    denoiser = names.denoiser
    spell = _other_spelling(denoiser)
    for name, tensor in denoiser.items():
        if name.endswith(".weight") and tensor.shape:
            path = name.removesuffix(".weight")
            weight = _Weight(denoiser.head + name, tensor.shape[0], _inner(tensor.shape))
            yield from ((("unet", p.replace(".", "_")), weight) for p in {path, *spell(path)})
    yield from _text_weights(checkpoint)


class _Spelling:
    """The path of a UNet's module in the other layout."""

    def __init__(self, table: Mapping[str, str]) -> None:
        self._table = table

    def __call__(self, path: str) -> tuple[str, ...]:
        head = path
        while head:
            if (found := self._table.get(head)) is not None:
                return (found + path[len(head) :],)
            head = head.rpartition(".")[0]
        return ()


def _other_spelling(denoiser: Names) -> _Spelling:
    layout = denoiser.unet.layout
    try:
        if layout == "ldm":
            return _Spelling(ldm_skeleton(denoiser).name_map().forward)
        if layout == "diffusers":
            return _Spelling(diffusers_skeleton(denoiser).name_map().backward)
    except CorruptFile:
        return _Spelling({})
    return _Spelling({})


def _text_weights(checkpoint: StateDict) -> Iterator[tuple[Place, _Weight]]:
    for name, tensor in checkpoint.items():
        for prefix, encoders in _HELD:
            match = prefix.match(name)
            if match is None or not tensor.shape:
                continue
            for path, share in _text_modules(name[match.end() :]):
                weight = _Weight(name, tensor.shape[0] // share, _inner(tensor.shape))
                yield from (((encoder, path), weight) for encoder in encoders)


def _text_modules(name: str) -> Iterator[tuple[str, int]]:
    """Module paths of a text encoder's tensor, and into how many of them its rows are divided."""
    if match := _OPENCLIP.match(name):
        modules = _PARTS.get(match[2], ())
        yield from ((f"encoder_layers_{match[1]}_{module}", len(modules)) for module in modules)
    elif name.endswith(".weight"):
        yield _text_path(name.removesuffix(".weight")), 1


def _inner(shape: tuple[int, ...]) -> int | None:
    """Input features of a matrix or 1x1 convolution; None where the kernel counts in."""
    flat = len(shape) == 2 or (len(shape) > 2 and set(shape[2:]) == {1})
    return shape[1] if flat else None


def _has_size(adapter: StateDict, keys: list[Key], weight: _Weight) -> bool:
    outs = {size for key in keys if (size := output_width(key, adapter)) is not None}
    inners = {size for key in keys if (size := input_width(key, adapter)) is not None}
    return outs <= {weight.out} and (weight.inner is None or inners <= {weight.inner})


def _first_misfit(
    adapter: StateDict, modules: Mapping[str, list[Key]], found: Mapping[str, _Weight]
) -> str | None:
    for module, weight in found.items():
        if not _has_size(adapter, modules[module], weight):
            size = " x ".join(str(size) for size in (weight.out, weight.inner) if size is not None)
            return f"{module} has not the sizes of {weight.name} ({size})"
    return None
