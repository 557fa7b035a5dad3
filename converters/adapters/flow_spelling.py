"""Modules of Flux and SD3 in the names of another program.

Single files keep several of diffusers' layers in one matrix. On the way to diffusers, a LoRA of
such a matrix becomes one for each of its layers: that layer's rows of up, and the same down, byte
for byte. On the way back the LoRAs of the layers become one of the matrix, with all their ranks:
its up has each layer's rows in that layer's columns, and zeros elsewhere. Where diffusers has the
halves of a layer the other way round, those of its up are exchanged. Sources: as
`converters.adapters.fused`; kohya-ss/sd-scripts `networks/lora_flux.py`, `networks/lora_sd3.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

from converters.adapters import Module, family_of
from converters.adapters.fused import has_halves_swapped, layers_of_blocks, parts_of
from converters.adapters.module import scale
from converters.adapters.paths import encoder_layers
from converters.adapters.places import DENOISER, place_of
from converters.adapters.rows import rows_of, rows_swapped
from converters.bases import Base
from converters.bytesource import MemoryBytes
from converters.dtypes import DType
from converters.errors import UnsupportedFile
from converters.statedict import Extent, LazyTensor, concat0

if TYPE_CHECKING:
    from converters.compute import Tensor

FLOW_FAMILIES = (Base.FLUX, Base.SD3)
"""The families whose modules are named here."""

_DIFFUSERS = "diffusers"
_HEADS: Mapping[str, Mapping[str, str]] = {
    "kohya": {DENOISER: "lora_unet_", "te1": "lora_te1_", "te2": "lora_te2_", "te3": "lora_te3_"},
    "comfy": {
        DENOISER: "diffusion_model.",
        "te1": "text_encoders.clip_l.transformer.",
        "te2": "text_encoders.clip_g.transformer.",
        "te3": "text_encoders.t5xxl.transformer.",
    },
    _DIFFUSERS: {
        DENOISER: "transformer.",
        "te1": "text_encoder.",
        "te2": "text_encoder_2.",
        "te3": "text_encoder_3.",
    },
}
_T5_BLOCKS = 24
_T5 = (
    *(f"layer.0.SelfAttention.{x}" for x in "qkvo"),
    *(f"layer.1.DenseReluDense.{x}" for x in ("wi_0", "wi_1", "wo")),
)
_QKV = 3


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer of the single file, or one of the `layers` of diffusers that it is (`index`).

    Text encoders have one path in all layouts.
    """

    component: str
    path: str
    layers: tuple[str, ...]
    index: int | None = None


def renamed(modules: Sequence[Module], base: Base, layout: str) -> list[tuple[str, Module]]:
    """Modules with their names in a layout (`kohya`, `comfy`, `diffusers`), split or joined.

    Raises UnsupportedFile naming the first module that has no name or form there.
    """
    if layout not in _HEADS:
        raise UnsupportedFile(f"{layout} has no names for {base.label}")
    found = [(_layer(module, base, layout), module) for module in modules]
    if layout == _DIFFUSERS:
        return [pair for layer, module in found for pair in _in_diffusers(layer, module, base)]
    return list(_in_single_file(found, base, layout))


def _layer(module: Module, base: Base, layout: str) -> _Layer:
    component, path = place_of(module.name)
    if base is Base.FLUX and component == "te2":
        component = "te3"  # what diffusers calls the second encoder of Flux
    layer = _layers(base).get((component, path))
    if layer is None:
        raise UnsupportedFile(f"module {module.name} has no name in {layout} for {base.label}")
    return layer


@cache
def _layers(base: Base) -> Mapping[tuple[str, str], _Layer]:
    """Every layer by its component and its path with underscores, in either layout."""
    table: dict[tuple[str, str], _Layer] = {}
    for path, layers in layers_of_blocks(flux=base is Base.FLUX):
        table[DENOISER, _flat(path)] = _Layer(DENOISER, path, layers)
        for index, layer in enumerate(layers):
            table.setdefault((DENOISER, _flat(layer)), _Layer(DENOISER, path, layers, index))
    for component, path in _encoders():
        short = _flat(path.removeprefix("text_model."))
        table[component, short] = _Layer(component, path, (path,))
    return table


def _encoders() -> Iterator[tuple[str, str]]:
    for layer in encoder_layers():
        yield layer.component, layer.diffusers
    for block in range(_T5_BLOCKS):
        yield from (("te3", f"encoder.block.{block}.{inner}") for inner in _T5)


def _name(layout: str, component: str, path: str, base: Base) -> str:
    head = _HEADS[layout][component]
    if layout == _DIFFUSERS and base is Base.FLUX and component == "te3":
        head = _HEADS[layout]["te2"]
    return head + (_flat(path) if layout == "kohya" else path)


def _flat(path: str) -> str:
    return path.replace(".", "_")


# -- to diffusers ----------------------------------------------------------------------------------


def _in_diffusers(layer: _Layer, module: Module, base: Base) -> Iterator[tuple[str, Module]]:
    if layer.component != DENOISER:
        yield _name(_DIFFUSERS, layer.component, layer.path, base), module
        return
    if layer.index is not None:
        yield _name(_DIFFUSERS, DENOISER, layer.layers[layer.index], base), module
        return
    parts = list(parts_of(layer.path, family_of(module).shape(module)))
    if not layer.layers or not parts:
        raise UnsupportedFile(f"module {module.name} has no name in diffusers for {base.label}")
    module = _reordered(layer, module)
    for path, rows in parts:
        part = module if rows is None else rows_of(module, rows)
        yield _name(_DIFFUSERS, DENOISER, path, base), part


def _reordered(layer: _Layer, module: Module) -> Module:
    """A module of a whole layer in the other order of its rows, where it has another.

    Raises UnsupportedFile.
    """
    if layer.component != DENOISER or not has_halves_swapped(
        layer.path, family_of(module).shape(module)
    ):
        return module
    return rows_swapped(module)


# -- to the names of single files ------------------------------------------------------------------


def _in_single_file(
    found: Sequence[tuple[_Layer, Module]], base: Base, layout: str
) -> Iterator[tuple[str, Module]]:
    parts: dict[str, dict[int, Module]] = {}
    for layer, module in found:
        name = _name(layout, layer.component, layer.path, base)
        if layer.index is None:
            yield name, module
        elif len(layer.layers) == 1:
            yield name, _reordered(layer, module)
        else:
            parts.setdefault(name, {})[layer.index] = module
    sizes = {_name(layout, each.component, each.path, base): len(each.layers) for each, _ in found}
    for name, modules in parts.items():
        yield name, _joined(name, modules, sizes[name])


def _joined(name: str, modules: Mapping[int, Module], layers: int) -> Module:
    """The LoRA of a matrix, of LoRAs for some of its layers by their position.

    Queries, keys and values are as wide as the input; a fourth layer takes the other rows, which
    are four times as many where nothing tells.
    """
    _require_plain(modules.values())
    width = next(iter(modules.values())).shape("down")[1]
    rows = {n: module.shape("up")[0] for n, module in modules.items()}
    last = rows.get(_QKV, 4 * width)
    sizes = (width, width, width, last)[:layers]
    if any(sizes[n] != count for n, count in rows.items()):
        raise UnsupportedFile(f"the modules of {name} do not fit below each other")
    scales = [scale(module, module.shape("down")[0]) for module in modules.values()]
    ranks = [module.shape("down")[0] for module in modules.values()]
    alike = len(set(scales)) == 1
    starts = [sum(sizes[:n]) for n in modules]
    ups = [_matrix(module.tensors["up"]) for module in modules.values()]
    dtype = ups[0].dtype if alike else DType.F32
    from converters.compute import lazy

    up = lazy(
        dtype,
        (sum(sizes), sum(ranks)),
        partial(_blocks, ups, starts, sum(sizes), None if alike else scales),
        name,
        inputs=ups,
    )
    tensors = {
        "up": up,
        "down": concat0([_matrix(module.tensors["down"]) for module in modules.values()]),
        "alpha": _number(sum(ranks) * (scales[0] if alike else 1.0), f"{name}.alpha"),
    }
    keys = tuple(key for module in modules.values() for key in module.keys)
    return Module(name, "lora", tensors, keys)


def _require_plain(modules: Iterable[Module]) -> None:
    """Raises UnsupportedFile for modules that cannot become one."""
    kinds = set()
    for module in modules:
        if not module.tensors.keys() <= {"up", "down", "alpha", "scale"}:
            raise UnsupportedFile(
                f"module {module.name} is {module.family}, of a layer that is a part of one matrix",
                hint="`assetmgr resize` makes a LoRA of it",
            )
        kinds.add((module.tensors["up"].dtype, module.tensors["down"].dtype))
        if len(kinds) > 1:
            raise UnsupportedFile(f"module {module.name} has another type than those beside it")


def _matrix(tensor: LazyTensor) -> LazyTensor:
    return tensor.reshape((tensor.shape[0], tensor.numel // tensor.shape[0]))


def _blocks(
    ups: Sequence[LazyTensor],
    starts: Sequence[int],
    rows: int,
    scales: Sequence[float] | None,
) -> Tensor:
    from converters.compute import value, zeros

    result = zeros((rows, sum(up.shape[1] for up in ups)))
    if scales is None:
        result = result.to(value(ups[0]).dtype)
    column = 0
    for number, (up, start) in enumerate(zip(ups, starts, strict=True)):
        factor = 1.0 if scales is None else scales[number]
        block = value(up) if scales is None else value(up).float() * factor
        result[start : start + up.shape[0], column : column + up.shape[1]] = block
        column += up.shape[1]
    return result


def _number(number: float, origin: str) -> LazyTensor:
    data = struct.pack("<f", number)
    return LazyTensor(DType.F32, (), (Extent(MemoryBytes(data), 0, len(data)),), origin)
