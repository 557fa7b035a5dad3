"""A hypernetwork listening in on the cross-attention of a UNet.

Per width d two small networks change what keys and values are made of: k = to_k(c + m·Hk(c)),
v = to_v(c + m·Hv(c)), in every attention layer whose context c has width d. Source:
the AUTOMATIC1111 web UI, `modules/hypernetworks/hypernetwork.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch.nn.modules import activation as activations

from converters import compute
from converters.errors import UnsupportedFile
from converters.hypernetworks import Affine, HyperLayer, Hypernetwork
from converters.statedict import LazyTensor

NORM_EPSILON = 1e-5


@dataclass(slots=True)
class Listening:
    """A hypernetwork in effect: its strength, which may be changed, and the layers it reaches."""

    strength: float
    places: int = 0

    @contextmanager
    def scaled(self, part: float) -> Iterator[None]:
        """Render at a part of the strength."""
        whole = self.strength
        self.strength = whole * part
        try:
            yield
        finally:
            self.strength = whole


@contextmanager
def listening(unet: Any, hypernetwork: Hypernetwork, strength: float) -> Iterator[Listening]:
    """Put the networks before `to_k` and `to_v` of the attention layers they are for.

    Raises UnsupportedFile for an activation that torch does not have.
    """
    effect = Listening(strength)
    built = {
        width: tuple(build(chain, hypernetwork).to(unet.device, unet.dtype) for chain in pair)
        for width, pair in hypernetwork.networks.items()
    }
    hooks = []
    try:
        for layer in _attention_layers(unet):
            pair = built.get(layer.to_k.in_features)
            if pair is not None:
                hooks.append(layer.to_k.register_forward_pre_hook(_adding(pair[0], effect)))
                hooks.append(layer.to_v.register_forward_pre_hook(_adding(pair[1], effect)))
        effect.places = len(hooks) // 2
        yield effect
    finally:
        for hook in hooks:
            hook.remove()


def build(chain: tuple[HyperLayer, ...], hypernetwork: Hypernetwork) -> torch.nn.Sequential:
    """One network as torch modules: linear, activation, norm, and so on. Dropout is training's."""
    modules: list[torch.nn.Module] = []
    for number, layer in enumerate(chain, start=1):
        modules.append(_linear(layer.linear))
        if number < len(chain) or hypernetwork.activate_output:
            modules += _activation(hypernetwork.activation, layer.slope)
        if layer.norm is not None:
            modules.append(_norm(layer.norm))
    return torch.nn.Sequential(*modules).requires_grad_(requires_grad=False).eval()


def _attention_layers(unet: Any) -> Iterator[Any]:
    for name, module in unet.named_modules():
        if name.endswith((".attn1", ".attn2")):
            yield module


_Hook = Callable[[torch.nn.Module, tuple[torch.Tensor, ...]], tuple[torch.Tensor, ...]]


def _adding(network: torch.nn.Module, effect: Listening) -> _Hook:
    def add(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        context, *rest = inputs
        here = network.to(context.device)  # the UNet comes to its device for its turn
        return (context + effect.strength * here(context), *rest)

    return add


def _linear(affine: Affine) -> torch.nn.Linear:
    out, inner = affine.weight.shape
    layer = torch.nn.Linear(inner, out, bias=affine.bias is not None, device="meta")
    return _filled(layer, affine)


def _norm(affine: Affine) -> torch.nn.LayerNorm:
    width, biased = affine.weight.shape[0], affine.bias is not None
    return _filled(torch.nn.LayerNorm(width, NORM_EPSILON, bias=biased, device="meta"), affine)


_Layer = TypeVar("_Layer", torch.nn.Linear, torch.nn.LayerNorm)


def _filled(layer: _Layer, affine: Affine) -> _Layer:
    layer.weight = _parameter(affine.weight)
    if affine.bias is not None:
        layer.bias = _parameter(affine.bias)
    return layer


def _parameter(tensor: LazyTensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(compute.value(tensor).float())


def _activation(name: str | None, slope: LazyTensor | None) -> list[torch.nn.Module]:
    """The module of an activation by its lower-case name; `swish` has always meant Hardswish.

    `slope` is what PReLU learned. Raises UnsupportedFile for what works on no single value, or
    wants arguments that the file does not hold.
    """
    if name is None:
        return []
    known = {word.lower(): word for word in activations.__all__}
    known["swish"] = "Hardswish"
    if name not in known:
        raise UnsupportedFile(f"not supported yet: activation {name}")
    if slope is not None:
        learned = torch.nn.PReLU(slope.numel, device="meta")
        learned.weight = _parameter(slope)
        return [learned]
    try:
        module: torch.nn.Module = getattr(torch.nn, known[name])()
    except TypeError as error:
        raise UnsupportedFile(f"activation {name} needs settings that the file lacks") from error
    if hasattr(module, "dim") and name != "glu":
        vars(module)["dim"] = 0  # what torch takes of three axes where none is told, as in softmax
    if name == "glu":
        raise UnsupportedFile("activation glu changes the width, which no layer is made for")
    return [module]
