"""Which tensor of a checkpoint, or which part of one, each module of an adapter changes.

Adapters name layers in many spellings that cannot be read back, so the table is made from the
checkpoint: every weight under every place it may be called. The denoiser of any family is listed
under its own names; UNets under LDM and diffusers names, whichever they have; Flux and SD3 under
those of diffusers too, where one of their matrices is several layers. OpenCLIP keeps queries, keys
and values in one matrix and the text projection transposed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from weakref import WeakKeyDictionary

from converters.adapters.fused import has_halves_swapped, parts_of, wholes_of
from converters.adapters.module import Shape
from converters.adapters.places import DENOISER, Place
from converters.adapters.slots import slot_of
from converters.errors import CorruptFile
from converters.identify.names import Names
from converters.identify.unet_facts import unet_facts
from converters.layouts.components import TEXT_ENCODER, UNET
from converters.layouts.namemap import NameMap
from converters.layouts.sd_unet import diffusers_skeleton, ldm_skeleton
from converters.statedict import StateDict
from converters.stored import StoredTensors, Structure

Rows = tuple[int, int]

_SECOND, _THIRD = f"{TEXT_ENCODER}_2", f"{TEXT_ENCODER}_3"
_HELD = (
    (re.compile(r"cond_stage_model\.(?:transformer|model)\."), TEXT_ENCODER, ("te1",)),
    (re.compile(r"conditioner\.embedders\.0\.transformer\."), TEXT_ENCODER, ("te1",)),
    (re.compile(r"conditioner\.embedders\.1\.model\."), _SECOND, ("te2",)),
    # The refiner's only encoder is the second one of SDXL; trainers use either name.
    (re.compile(r"conditioner\.embedders\.0\.model\."), _SECOND, ("te2", "te1")),
    (re.compile(r"text_encoders\.clip_l\.transformer\."), TEXT_ENCODER, ("te1",)),
    (re.compile(r"text_encoders\.clip_g\.transformer\."), _SECOND, ("te2",)),
    (re.compile(r"text_encoders\.t5xxl\.transformer\."), _THIRD, ("te3", "te2")),
    (re.compile(r"text_encoder\."), TEXT_ENCODER, ("te1",)),
    # The second encoder of Flux is T5, the third of other families.
    (re.compile(r"text_encoder_2\."), _SECOND, ("te2", "te3")),
    (re.compile(r"text_encoder_3\."), _THIRD, ("te3",)),
)
"""Prefixes of text encoders in a checkpoint, their component, and what trainers call them."""

_FIRST_LAYERS = ("conv_in", "x_embedder", "context_embedder")
"""Layers that tell the denoiser of a pipeline: of UNets, Flux and SD3."""
_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)")
_FUSED = ("self_attn_q_proj", "self_attn_k_proj", "self_attn_v_proj")
_LAYERS = {
    "attn.out_proj": "self_attn_out_proj",
    "mlp.c_fc": "mlp_fc1",
    "mlp.c_proj": "mlp_fc2",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
}
"""Layers of an OpenCLIP block -> those of transformers' CLIP."""
_OUTER = {"ln_final": "final_layer_norm", "token_embedding": "embeddings_token_embedding"}


@dataclass(frozen=True, slots=True)
class Target:
    """A weight that a module can change: a tensor of the checkpoint, or a part of one.

    `shape` is that of the layer as modules see it: `rows` of the tensor if they are given, and
    `transposed` against it. Where a checkpoint keeps a layer in several tensors, or its rows in
    another order, `parts` are these, each with the rows that it is of the layer, and `tensor` is
    the first. `bias` names the tensor
    with the layer's bias, in the same rows. `slot` is the place of a denoiser's layer in a list of
    block weights.
    """

    tensor: str
    component: str
    shape: Shape
    slot: str | None = None
    bias: str | None = None
    rows: Rows | None = None
    transposed: bool = False
    parts: tuple[tuple[Target, Rows], ...] = ()


def module_targets(checkpoint: StateDict) -> Mapping[Place, Target]:
    """Place -> the weight there; found once for all files of one structure. Reads no data."""
    if not isinstance(checkpoint.tensors, StoredTensors):
        return _targets(checkpoint)
    structure = checkpoint.tensors.structure
    if structure not in _FOUND:
        _FOUND[structure] = _targets(checkpoint)
    return _FOUND[structure]


_FOUND: WeakKeyDictionary[Structure, Mapping[Place, Target]] = WeakKeyDictionary()


def _targets(checkpoint: StateDict) -> Mapping[Place, Target]:
    table: dict[Place, Target] = {}
    for place, target in (*_denoiser(checkpoint), *_text_encoders(checkpoint)):
        table.setdefault(place, target)
    return table


def _denoiser(checkpoint: StateDict) -> Iterator[tuple[Place, Target]]:
    names = _denoiser_names(checkpoint)
    ldm, diffusers = _spellings(names)
    wholes = {} if names.once(unet_facts).layout else dict(wholes_of(names))
    single = {path: whole for whole, paths in wholes.items() for path in paths}
    own: dict[str, Target] = {}
    for name, tensor in names.items():
        if not name.endswith(".weight") or not tensor.shape:
            continue
        path = name.removesuffix(".weight")
        held = _bias(checkpoint, f"{names.head}{path}.bias", tensor.shape)
        slot = slot_of(single.get(path) or ldm(path))
        whole = own[path] = Target(names.head + name, UNET, tensor.shape, slot, held)
        for spelling in dict.fromkeys((path, ldm(path), diffusers(path))):
            yield (DENOISER, _flat(spelling)), whole
        for spelling, rows in parts_of(path, tensor.shape):
            shape = (rows[1] - rows[0], *tensor.shape[1:]) if rows else tensor.shape
            part = Target(names.head + name, UNET, shape, slot, held, rows)
            swapped = has_halves_swapped(path, tensor.shape)
            yield (DENOISER, _flat(spelling)), _with_halves_swapped(part) if swapped else part
    for spelling, paths in wholes.items():
        targets = [own[path] for path in paths if path in own]
        if len(targets) == len(paths) and len({target.shape[1:] for target in targets}) == 1:
            joined = _joined(targets)
            swapped = has_halves_swapped(spelling, joined.shape)
            yield (DENOISER, _flat(spelling)), _with_halves_swapped(joined) if swapped else joined


def _with_halves_swapped(target: Target) -> Target:
    """A layer whose first half of rows is the second one in the checkpoint."""
    rows, half = target.shape[0], target.shape[0] // 2
    first, second = (0, half), (half, rows)
    return replace(
        target,
        bias=None,
        parts=tuple(
            (replace(target, rows=there, shape=(half, *target.shape[1:])), here)
            for there, here in ((second, first), (first, second))
        ),
    )


def _bias(checkpoint: StateDict, name: str, weight: Shape) -> str | None:
    """The name of a layer's bias, if it is there and has a number for each row of the weight."""
    return name if name in checkpoint and checkpoint[name].shape == weight[:1] else None


def _joined(targets: list[Target]) -> Target:
    """Several layers below each other as one."""
    first = targets[0]
    if len(targets) == 1:
        return first
    ends = list(accumulate((target.shape[0] for target in targets), initial=0))
    parts = tuple(zip(targets, pairwise(ends), strict=True))
    shape = (ends[-1], *first.shape[1:])
    return Target(first.tensor, first.component, shape, first.slot, parts=parts)


def _denoiser_names(checkpoint: StateDict) -> Names:
    for head in ("unet.", "transformer."):  # components of a pipeline
        inner = {n.removeprefix(head): t for n, t in checkpoint.items() if n.startswith(head)}
        if any(f"{head}{mark}.weight" in checkpoint for mark in _FIRST_LAYERS):
            return Names(inner, head)
    return Names(checkpoint).denoiser


def _spellings(names: Names) -> tuple[NameMap, NameMap]:
    """The maps of a UNet's own names to LDM's and to diffusers'; for others, names stay."""
    same = NameMap({}, {})
    layout = names.once(unet_facts).layout
    try:
        if layout == "ldm":
            return same, ldm_skeleton(names).name_map()
        if layout == "diffusers":
            return diffusers_skeleton(names).name_map().inverse, same
    except (CorruptFile, ValueError):  # a UNet in pieces: its own names still count
        return same, same
    return same, same


def _text_encoders(checkpoint: StateDict) -> Iterator[tuple[Place, Target]]:
    # Some merged files hold the CLIP of SD1 under two spellings; the newer one is in use.
    for name in sorted(checkpoint, key=lambda n: ".text_model." not in n):
        tensor = checkpoint[name]
        for prefix, component, encoders in _HELD:
            match = prefix.match(name)
            if match is None or not tensor.shape:
                continue
            for path, target in _layers(checkpoint, name, match.end(), component):
                yield from (((encoder, path), target) for encoder in encoders)
            break


def _layers(
    checkpoint: StateDict, name: str, head: int, component: str
) -> Iterator[tuple[str, Target]]:
    """The layers that a text encoder's tensor is, by their paths in transformers' CLIP."""
    inner, tensor = name[head:], checkpoint[name]
    block = _BLOCK.fullmatch(inner)
    if block and block[2] == "attn.in_proj_weight":
        yield from _thirds(checkpoint, name, f"encoder_layers_{block[1]}", component)
    elif inner == "text_projection" and len(tensor.shape) == 2:
        shape = (tensor.shape[1], tensor.shape[0])
        yield "text_projection", Target(name, component, shape, transposed=True)
    elif inner.endswith(".weight"):
        layer = inner.removesuffix(".weight")
        held = _bias(checkpoint, name.removesuffix("weight") + "bias", tensor.shape)
        yield _text_path(layer), Target(name, component, tensor.shape, bias=held)


def _thirds(
    checkpoint: StateDict, name: str, path: str, component: str
) -> Iterator[tuple[str, Target]]:
    shape = checkpoint[name].shape
    third, held = shape[0] // 3, _bias(checkpoint, name.removesuffix("weight") + "bias", shape)
    if shape[0] % 3:
        return
    for number, layer in enumerate(_FUSED):
        rows = (number * third, (number + 1) * third)
        inner = (third, *shape[1:])
        yield f"{path}_{layer}", Target(name, component, inner, bias=held, rows=rows)


def _text_path(layer: str) -> str:
    if block := _BLOCK.fullmatch(layer):
        return f"encoder_layers_{block[1]}_{_LAYERS.get(block[2], _flat(block[2]))}"
    return _OUTER.get(layer, _flat(layer).removeprefix("text_model_"))


def _flat(path: str) -> str:
    return path.replace(".", "_")
