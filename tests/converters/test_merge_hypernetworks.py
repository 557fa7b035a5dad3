"""Hypernetworks folded into the weights they act on, or refused with the reason."""

from __future__ import annotations

import functools

import pytest
import torch
from helpers.adapters import close, lazy
from helpers.pipelines import checkpoint
from helpers.sd1 import UNET, lora_shapes, random_fill, state_dict

from converters.compute import value
from converters.dtypes import DType
from converters.errors import UnsupportedFile, UnusedKeys
from converters.merge import AdapterChoice, plan_merge
from converters.statedict import Plain, StateDict

KEY = f"{UNET}middle_block.1.transformer_blocks.0.attn2.to_k.weight"
VALUE = KEY.replace("to_k", "to_v")
SELF = KEY.replace("attn2", "attn1")


@functools.cache
def _model() -> StateDict:
    return checkpoint("sd-1", DType.F32)


def hypernetwork(
    widths: tuple[int, ...] = (768,),
    *,
    seed: int = 0,
    bias: float = 0.0,
    norm: bool = False,
    **extras: Plain,
) -> StateDict:
    """Two layers, to twice the width and back, for keys and for values."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for width in widths:
        for side in (0, 1):
            for index, (out, inner) in enumerate(((2 * width, width), (width, 2 * width))):
                name = f"{width}.{side}.linear.{2 * index}"
                tensors[f"{name}.weight"] = torch.randn(out, inner, generator=generator) * 0.02
                tensors[f"{name}.bias"] = torch.full((out,), bias)
                if norm:
                    ones = torch.ones(out)
                    tensors |= {f"{width}.{side}.linear.{2 * index + 1}.{p}": ones for p in PARTS}
    held = {name: lazy(tensor, name) for name, tensor in tensors.items()}
    return StateDict(held, {}, extras)


PARTS = ("weight", "bias")


def _chain(sd: StateDict, width: int, side: int) -> torch.Tensor:
    first, second = (value(sd[f"{width}.{side}.linear.{n}.weight"]) for n in (0, 2))
    return second @ first


def test_keys_and_values_of_the_width_take_the_product_of_the_layers() -> None:
    model, network = _model(), hypernetwork(activation_func="linear")
    plan = plan_merge(model, [AdapterChoice("h", network, 0.5)])
    for name, side in ((KEY, 0), (VALUE, 1)):
        context = torch.randn(3, 768)
        chain = _chain(network, 768, side)
        # As at run time: the context with what the hypernetwork adds to it goes into the layer.
        expected = (context + 0.5 * context @ chain.T) @ value(model[name]).T
        got = context @ value(plan.state_dict[name]).T
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    assert all("attn2.to_k" in name or "attn2.to_v" in name for name in plan.changed)
    assert plan.reports[0].kind == "hypernetwork"
    assert plan.reports[0].applied == len(plan.changed)


def test_self_attention_of_the_width_is_meant_too() -> None:
    network = hypernetwork((64,))
    plan = plan_merge(_model(), [AdapterChoice("h", network)])
    assert SELF in plan.changed
    assert KEY not in plan.changed


def test_the_first_named_acts_first_and_adapters_are_part_of_the_layer() -> None:
    model, first, second = _model(), hypernetwork(seed=1), hypernetwork(seed=2)
    module = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    lora = state_dict(lora_shapes({module: (64, 768)}), DType.F32, fill=random_fill(DType.F32))
    choices = [AdapterChoice("1", first), AdapterChoice("l", lora), AdapterChoice("2", second)]
    plan = plan_merge(model, choices)
    with_lora = value(plan_merge(model, [AdapterChoice("l", lora)]).state_dict[KEY])
    unit = torch.eye(768)
    expected = with_lora @ (unit + _chain(second, 768, 0)) @ (unit + _chain(first, 768, 0))
    torch.testing.assert_close(value(plan.state_dict[KEY]), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("network", "why"),
    [
        (hypernetwork(activation_func="relu"), "its activation 'relu' is not linear"),
        (hypernetwork(norm=True), "it has layer norms"),
        (hypernetwork(bias=0.1), r"768\.0\.linear\.0\.bias is a bias other than 0"),
    ],
)
def test_what_no_weight_can_stand_for_is_refused_with_the_reason(
    network: StateDict, why: str
) -> None:
    with pytest.raises(UnsupportedFile, match=f"no weight can stand for: {why}"):
        plan_merge(_model(), [AdapterChoice("h", network)], partial=True)


@pytest.mark.parametrize("extras", [{"activate_output": True}, {}])
def test_an_activation_behind_the_last_layer_counts_and_is_meant_if_nothing_is_said(
    extras: dict[str, Plain],
) -> None:
    """A1111 takes it for granted."""
    layer = {f"768.{side}.linear.0.weight": torch.eye(768) for side in (0, 1)}
    held = {name: lazy(tensor, name) for name, tensor in layer.items()}
    network = StateDict(held, {}, {"activation_func": "relu", **extras})
    with pytest.raises(UnsupportedFile, match="'relu' is not linear"):
        plan_merge(_model(), [AdapterChoice("h", network)])
    # Without it there is no place for an activation in a single layer.
    linear = StateDict(held, {}, {"activation_func": "relu", "activate_output": False})
    plan = plan_merge(_model(), [AdapterChoice("h", linear)])
    close(value(plan.state_dict[KEY]), 2 * value(_model()[KEY]))


def test_widths_that_no_layer_has_are_unused() -> None:
    network = hypernetwork((768, 320))
    with pytest.raises(UnusedKeys, match="no attention layer takes a context of this width"):
        plan_merge(_model(), [AdapterChoice("h", network)])
    plan = plan_merge(_model(), [AdapterChoice("h", network)], partial=True)
    assert all(key.startswith("320.") for key in plan.reports[0].unused)
