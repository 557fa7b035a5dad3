"""Adapters in effect while a checkpoint renders, as programs apply them that do not merge.

A LoRA or LoCon is a second path beside its layer, whose result is added to the layer's own; nothing
of the weights is changed. What is no product of matrices, or falls to a part of a layer, acts on
the weights, in float32 and not rounded to the checkpoint's type. So a render with these tells
whether a merged file does what its adapters do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from assetmgr.sampler.adapters.hypernetwork import listening
from assetmgr.sampler.models.bundle import Bundle
from assetmgr.sampler.process.jobs import RuntimeAdapter
from converters import compute
from converters.adapters import load_adapter
from converters.adapters.opening import open_adapter
from converters.adapters.targets import module_targets
from converters.dtypes import BY_LABEL, DType
from converters.hypernetworks import read_hypernetwork
from converters.identify import Kind, identify
from converters.merge.blocks import block_weights
from converters.merge.changes import View
from converters.merge.fitting import Placed, fit_modules
from converters.merge.into_checkpoint import AdapterChoice, plan_merge
from converters.statedict import LazyTensor, StateDict
from converters.transform.cast import cast

KEEP = "keep"


class Effect(NamedTuple):
    """What a module of an adapter does, and how strongly."""

    placed: Placed
    strength: float


Effects = Mapping[str, Sequence[Effect]]
"""Name of a tensor of the checkpoint -> what adapters do to it."""


@contextmanager
def at_runtime(
    bundle: Bundle, adapters: Sequence[RuntimeAdapter], rounded: str | None
) -> Iterator[None]:
    """Render with adapters in effect. Raises the errors of their files, and of a merge.

    `rounded` (an element type, or KEEP for each tensor's own) has the changed weights rounded
    instead, by the plain formula: so it can be seen what rounding alone does to a picture.
    """
    choices = [_choice(each) for each in adapters]
    nets = [each for each in choices if identify(each.state_dict).kind is Kind.HYPERNETWORK]
    choices = [each for each in choices if each not in nets]
    effects = _effects(bundle, choices)
    layers = _layers(bundle)
    beside = {name: found for name, found in effects.items() if _is_beside(name, found, layers)}
    state = _changed_within(bundle.state_dict, choices, effects.keys() - beside.keys())
    if rounded is not None:
        types = _types(bundle.state_dict, rounded)
        state = _rounded(state, beside, types, effects.keys())
        beside = {}
    with ExitStack() as stack:
        stack.enter_context(bundle.patched(state))
        for name, found in beside.items():
            hook = layers[name].register_forward_hook(_adding(layers[name], found))
            stack.callback(hook.remove)
        for choice in nets:
            hypernetwork = read_hypernetwork(choice.state_dict)
            stack.enter_context(listening(bundle.unet.network, hypernetwork, choice.weight))
        yield


def _choice(adapter: RuntimeAdapter) -> AdapterChoice:
    state = open_adapter(Path(adapter.path))
    return AdapterChoice(
        adapter.path, state, adapter.weight, adapter.text_encoder, adapter.block_weights
    )


def _effects(bundle: Bundle, choices: Sequence[AdapterChoice]) -> Effects:
    targets = module_targets(bundle.state_dict)
    found: defaultdict[str, list[Effect]] = defaultdict(list)
    for choice in choices:
        text = choice.block_weights
        blocks = None if text is None else block_weights(text, bundle.identity.base)
        for placed in fit_modules(load_adapter(choice.state_dict), targets).placed:
            strength = choice.strength(placed.target, blocks)
            if strength:
                found[placed.tensor].append(Effect(placed, strength))
    return found


def _layers(bundle: Bundle) -> dict[str, Any]:
    """Name of a weight of the checkpoint -> the layer that has just this weight."""
    weights: dict[object, Any] = {}
    for part in bundle.parts:
        layers = dict(part.network.named_modules())
        for name, tensor in part.mapped.items():
            layer = layers.get(name.removesuffix(".weight"))
            if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
                weights[tensor.source] = layer
    own = ((name, weights.get(tensor.source)) for name, tensor in bundle.state_dict.items())
    return {name: layer for name, layer in own if layer is not None and name.endswith("weight")}


def _is_beside(name: str, effects: Sequence[Effect], layers: Mapping[str, Any]) -> bool:
    """Whether all that is done to a weight can be done by paths beside its layer."""
    products = all(e.placed.factors is not None and e.placed.view == View() for e in effects)
    return products and name in layers


def _adding(layer: Any, effects: Sequence[Effect]) -> Callable[[Any, Any, Any], Any]:
    """A hook that adds the paths beside a layer to its result."""
    paths = [_path(layer, effect) for effect in effects]

    def hook(_layer: Any, inputs: Any, output: Any) -> Any:
        return output + sum(path(inputs[0]) for path in paths)

    return hook


def _path(layer: Any, effect: Effect) -> Callable[[Any], Any]:
    """The path strength · scale · up(down(x)), with down as wide as the layer's kernel.

    A layer that comes to its device for its turn alone is met there.
    """
    assert effect.placed.factors is not None  # asked for products alone
    factors = effect.placed.factors()
    weight = layer.weight
    up = (factors.up * (factors.scale * effect.strength)).to(weight)
    down = factors.down.to(weight)
    if isinstance(layer, torch.nn.Linear):
        return lambda x: functional.linear(functional.linear(x, down.to(x)), up.to(x))
    kernel, back = down.reshape(down.shape[0], *weight.shape[1:]), up[:, :, None, None]
    how = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
    return lambda x: functional.conv2d(functional.conv2d(x, kernel.to(x), **how), back.to(x))


def _changed_within(
    state: StateDict, choices: Sequence[AdapterChoice], names: AbstractSet[str]
) -> StateDict:
    """The checkpoint with the weights that are changed in place, in float32."""
    if not names:
        return state
    wide = state.overlay(cast(state.select(names.__contains__), DType.F32))
    merged = plan_merge(wide, choices, partial=True).state_dict
    return state.overlay({name: merged[name] for name in names})


def _types(state: StateDict, kind: str) -> dict[str, DType]:
    """What each weight is rounded to: a type, or with KEEP its own."""
    own = {name: tensor.dtype for name, tensor in state.items() if tensor.dtype.is_float}
    return own if kind == KEEP else dict.fromkeys(own, BY_LABEL[kind])


def _rounded(
    state: StateDict, beside: Effects, types: Mapping[str, DType], changed: AbstractSet[str]
) -> StateDict:
    """All changes in the weights, and these rounded to their types."""
    affected = {
        name: dtype
        for name, dtype in types.items()
        if name in changed or dtype.bits < state[name].dtype.bits
    }
    return state.overlay(
        {
            name: _rounded_sum(state[name], beside.get(name, ()), dtype)
            for name, dtype in affected.items()
        }
    )


def _rounded_sum(tensor: LazyTensor, effects: Sequence[Effect], dtype: DType) -> LazyTensor:
    """A weight with all that is done to it, rounded once."""

    def values() -> torch.Tensor:
        total = compute.value(tensor).float()
        for effect in effects:
            assert effect.placed.factors is not None  # products alone are beside a layer
            factors = effect.placed.factors()
            change = factors.up @ factors.down * (factors.scale * effect.strength)
            total += change.reshape(total.shape)
        return total.to(compute.torch_dtype(dtype)).float()

    return compute.lazy(DType.F32, tensor.shape, values, tensor.origin, inputs=(tensor,))
