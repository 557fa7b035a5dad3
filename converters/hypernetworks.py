"""Hypernetworks: per context width two small networks, one for keys and one for values.

The order of layers, norms and activations is rebuilt from the tensors (the indices of
`linear.<i>` count activations and dropouts too, so they have gaps), the rest from the attributes
beside them. Source: lllyasviel/stable-diffusion-webui-forge
`modules/hypernetworks/hypernetwork.py`; the same defaults apply where an attribute is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from converters.errors import CorruptFile
from converters.extras import file_extras
from converters.identify.hypernetworks import TENSOR
from converters.statedict import LazyTensor, Plain, StateDict


@dataclass(frozen=True, slots=True)
class Affine:
    """Weight and bias of a linear layer (weight (out, in)) or of a layer norm (weight (n,))."""

    weight: LazyTensor
    bias: LazyTensor | None


@dataclass(frozen=True, slots=True)
class HyperLayer:
    """A linear layer, and the layer norm behind it (after the activation) if there is one.

    `slope` (1,) or (n,) is the weight of a PReLU between the two.
    """

    linear: Affine
    norm: Affine | None
    slope: LazyTensor | None = None


@dataclass(frozen=True, slots=True)
class Hypernetwork:
    """Networks by width: (for keys, for values), each a chain of layers from width to width.

    `activation` is a lower-case name or None for none; it follows every linear layer but the last,
    and that one too if `activate_output`. `structure` lists the layer widths as multiples.
    """

    name: str | None
    networks: Mapping[int, tuple[tuple[HyperLayer, ...], tuple[HyperLayer, ...]]]
    activation: str | None
    activate_output: bool
    layer_norm: bool
    structure: tuple[float, ...]
    step: int | None = None


def read_hypernetwork(sd: StateDict) -> Hypernetwork:
    """The hypernetwork in a file. Raises CorruptFile when its layers do not form a chain."""
    extras = file_extras(sd)
    modules = _modules(sd)
    widths = sorted({width for width, _ in modules})
    if not widths:
        raise CorruptFile("holds no hypernetwork layers")
    networks = {w: (_chain(modules, w, 0), _chain(modules, w, 1)) for w in widths}
    first = networks[widths[0]][0]
    activation = extras.get("activation_func")
    activate_output = extras.get("activate_output")
    return Hypernetwork(
        name=name if isinstance(name := extras.get("name"), str) else None,
        networks=networks,
        activation=_activation(activation),
        activate_output=activate_output if isinstance(activate_output, bool) else True,
        layer_norm=any(layer.norm is not None for layer in first),
        structure=_structure(widths[0], first, extras.get("layer_structure")),
        step=step if isinstance(step := extras.get("step"), int) else None,
    )


_Parts = dict[str, LazyTensor]
_Modules = dict[tuple[int, int], dict[int, _Parts]]


def _modules(sd: StateDict) -> _Modules:
    """(width, side) -> index -> {"weight": ..., "bias": ...}."""
    modules: _Modules = {}
    for name, tensor in sd.items():
        match = TENSOR.match(name)
        if match is None:
            raise CorruptFile(f"{name} is not a layer of a hypernetwork")
        place = modules.setdefault((int(match["width"]), int(match["side"])), {})
        place.setdefault(int(match["index"]), {})[match["part"]] = tensor
    return modules


def _chain(modules: _Modules, width: int, side: int) -> tuple[HyperLayer, ...]:
    layers: list[HyperLayer] = []
    current = width
    for index, parts in sorted(modules.get((width, side), {}).items()):
        affine = _affine(parts, f"{width}.{side}.linear.{index}")
        if _is_slope(affine, layers):
            layers[-1] = replace(layers[-1], slope=affine.weight)
        elif len(affine.weight.shape) == 1 and layers and layers[-1].norm is None:
            layers[-1] = replace(layers[-1], norm=affine)
        elif len(affine.weight.shape) == 2 and affine.weight.shape[1] == current:
            layers.append(HyperLayer(affine, None))
            current = affine.weight.shape[0]
        else:
            raise _broken(width, side, affine.weight)
    if not layers or current != width:
        raise CorruptFile(f"the networks of width {width} do not lead back to that width")
    return tuple(layers)


def _is_slope(affine: Affine, layers: list[HyperLayer]) -> bool:
    """Whether a weight is what a PReLU behind the last linear layer learned: it has no bias."""
    alone = affine.bias is None and len(affine.weight.shape) == 1
    return alone and bool(layers) and layers[-1].slope is None and layers[-1].norm is None


def _affine(parts: _Parts, where: str) -> Affine:
    if "weight" not in parts:
        raise CorruptFile(f"{where} has a bias but no weight")
    return Affine(parts["weight"], parts.get("bias"))


def _broken(width: int, side: int, weight: LazyTensor) -> CorruptFile:
    shape = list(weight.shape)
    return CorruptFile(f"network {side} of width {width}: a layer of shape {shape} does not follow")


def _activation(value: Plain) -> str | None:
    name = value.lower() if isinstance(value, str) else None
    return None if name in (None, "", "linear", "none") else name


def _structure(width: int, layers: tuple[HyperLayer, ...], stated: Plain) -> tuple[float, ...]:
    if isinstance(stated, list) and len(stated) == len(layers) + 1:
        numbers = [float(n) for n in stated if isinstance(n, int | float)]
        if len(numbers) == len(stated):
            return tuple(numbers)
    return (1.0, *(layer.linear.weight.shape[0] / width for layer in layers))
