"""Adapters in effect while a checkpoint renders, as programs apply them that do not merge.

A LoRA or LoCon is a second path beside its layer, whose result is added to the layer's own; nothing
of the weights is changed. What is no product of matrices, or falls to a part of a layer, acts on
the weights, in float32 and not rounded to the checkpoint's type. So a render with these tells
whether a merged file does what its adapters do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from assetmgr.sampler.bundle import Bundle
from assetmgr.sampler.hypernetwork import listening
from assetmgr.sampler.jobs import RuntimeAdapter
from converters import compute
from converters.adapters import load_adapter
from converters.adapters.opening import open_adapter
from converters.adapters.targets import module_targets
from converters.dtypes import DType
from converters.hypernetworks import read_hypernetwork
from converters.identify import Kind, identify
from converters.merge.blocks import block_weights
from converters.merge.changes import View
from converters.merge.fitting import Placed, fit_modules
from converters.merge.into_checkpoint import AdapterChoice, plan_merge
from converters.recovery.rounding import Grid, grid_named, steps
from converters.statedict import LazyTensor, StateDict
from converters.transform.cast import cast


class Effect(NamedTuple):
    """What a module of an adapter does, and how strongly."""

    placed: Placed
    strength: float


Effects = Mapping[str, Sequence[Effect]]
"""Name of a tensor of the checkpoint -> what adapters do to it."""


@contextmanager
def at_runtime(
    bundle: Bundle, adapters: Sequence[RuntimeAdapter], precision: str | None
) -> Iterator[None]:
    """Render with adapters in effect. Raises the errors of their files, and of a merge.

    With a `precision` the weights that they change, and those of finer types, are shaken as
    rounding to it might do: so it can be seen what rounding alone does to a picture.
    """
    choices = [_choice(each) for each in adapters]
    nets = [each for each in choices if identify(each.state_dict).kind is Kind.HYPERNETWORK]
    choices = [each for each in choices if each not in nets]
    effects = _effects(bundle, choices)
    layers = _layers(bundle)
    beside = {name: found for name, found in effects.items() if _is_beside(name, found, layers)}
    within = effects.keys() - beside.keys()
    with ExitStack() as stack:
        stack.enter_context(bundle.patched(_changed(bundle, choices, within, effects, precision)))
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
    """The path strength · scale · up(down(x)), with down as wide as the layer's kernel."""
    assert effect.placed.factors is not None  # asked for products alone
    factors = effect.placed.factors()
    weight = layer.weight
    up = (factors.up * (factors.scale * effect.strength)).to(weight)
    down = factors.down.to(weight)
    if isinstance(layer, torch.nn.Linear):
        return lambda x: functional.linear(functional.linear(x, down), up)
    kernel = down.reshape(down.shape[0], *weight.shape[1:])
    convolve = partial(
        functional.conv2d,
        weight=kernel,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
    )
    return lambda x: functional.conv2d(convolve(x), up[:, :, None, None])


def _changed(
    bundle: Bundle,
    choices: Sequence[AdapterChoice],
    within: set[str],
    effects: Effects,
    precision: str | None,
) -> StateDict:
    """The checkpoint with the weights that are changed in place, and shaken if it is wanted."""
    state = bundle.state_dict
    if within:
        wide = state.overlay(cast(state.select(within.__contains__), DType.F32))
        merged = plan_merge(wide, choices, partial=True).state_dict
        state = state.overlay({name: merged[name] for name in within})
    if precision is not None:
        grid = grid_named(precision)
        rounded = {name for name in state if name in effects or _is_finer(state[name], grid)}
        state = state.overlay({name: _shaken(state[name], grid) for name in rounded})
    return state


def _is_finer(tensor: LazyTensor, grid: Grid) -> bool:
    """Whether storing a tensor on a grid rounds it."""
    own = grid_named(tensor.dtype.label)
    return tensor.dtype.is_float and own.mantissa > grid.mantissa


def _shaken(tensor: LazyTensor, grid: Grid) -> LazyTensor:
    """A tensor off by as much as rounding may be, the same at every call."""

    def values() -> torch.Tensor:
        own = compute.value(tensor).float()
        step = torch.from_numpy(steps(own.numpy(), grid)).float()
        generator = torch.Generator("cpu").manual_seed(own.numel())
        return own + step * (torch.rand(own.shape, generator=generator) - 0.5)

    return compute.lazy(DType.F32, tensor.shape, values, tensor.origin, inputs=(tensor,))
