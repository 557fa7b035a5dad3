"""Hypernetworks: layers rebuilt from tensors, attributes from the values beside them."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from helpers.sd1 import Shapes, state_dict

from converters.errors import CorruptFile
from converters.extras import extras_as_metadata
from converters.hypernetworks import read_hypernetwork
from converters.statedict import Plain, StateDict

WIDTH = 768


def network(linears: Iterable[int], norms: Iterable[int] = (), width: int = WIDTH) -> Shapes:
    """A network of structure [1, 2, 1] whose modules have these indices."""
    shapes: Shapes = {}
    for side in (0, 1):
        sizes = ((2 * width, width), (width, 2 * width))
        for index, size in zip(linears, sizes, strict=True):
            shapes[f"{width}.{side}.linear.{index}.weight"] = size
            shapes[f"{width}.{side}.linear.{index}.bias"] = size[:1]
        for index, size in zip(norms, sizes, strict=False):
            shapes[f"{width}.{side}.linear.{index}.weight"] = size[:1]
            shapes[f"{width}.{side}.linear.{index}.bias"] = size[:1]
    return shapes


def with_extras(shapes: Shapes, **extras: Plain) -> StateDict:
    return StateDict(state_dict(shapes).tensors, {}, extras)


def test_layers_and_attributes_are_read() -> None:
    sd = with_extras(
        network((0, 2)),
        name="style",
        step=1000,
        layer_structure=[1, 2, 1],
        activation_func="relu",
        activate_output=False,
    )
    found = read_hypernetwork(sd)
    assert (found.name, found.step, found.activation) == ("style", 1000, "relu")
    assert (found.activate_output, found.layer_norm) == (False, False)
    assert found.structure == (1.0, 2.0, 1.0)
    keys, values = found.networks[WIDTH]
    assert [layer.linear.weight.shape for layer in keys] == [(1536, 768), (768, 1536)]
    assert len(values) == 2
    assert keys[0].linear.weight is sd["768.0.linear.0.weight"]
    assert values[0].linear.weight is sd["768.1.linear.0.weight"]


@pytest.mark.parametrize(
    ("linears", "norms"),
    [((0, 1), ()), ((0, 2), ()), ((0, 3), (2, 5)), ((0, 4), (2, 5)), ((3, 11), ())],
)
def test_gaps_of_activations_and_dropouts_do_not_matter(
    linears: tuple[int, ...], norms: tuple[int, ...]
) -> None:
    found = read_hypernetwork(state_dict(network(linears, norms)))
    keys, _ = found.networks[WIDTH]
    assert len(keys) == 2
    assert found.layer_norm is bool(norms)
    assert [layer.norm is not None for layer in keys] == [bool(norms)] * 2
    assert found.structure == (1.0, 2.0, 1.0)


def test_missing_attributes_have_the_defaults_of_a1111() -> None:
    found = read_hypernetwork(state_dict(network((0, 1))))
    assert (found.name, found.step, found.activation) == (None, None, None)
    assert found.activate_output is True


@pytest.mark.parametrize("word", ["linear", "Linear", None, ""])
def test_a_linear_activation_is_none(word: str | None) -> None:
    sd = with_extras(network((0, 1)), activation_func=word)
    assert read_hypernetwork(sd).activation is None


def test_the_novelai_form_is_read() -> None:
    shapes = {n.replace("linear.", "linear"): s for n, s in network((1, 2)).items()}
    assert "768.0.linear1.weight" in shapes
    assert len(read_hypernetwork(state_dict(shapes)).networks[WIDTH][0]) == 2


def test_several_widths_have_a_network_each() -> None:
    shapes = network((0, 2)) | network((0, 2), width=64)
    assert set(read_hypernetwork(state_dict(shapes)).networks) == {64, 768}


def test_converted_files_keep_their_attributes() -> None:
    said: dict[str, Plain] = {"activation_func": "swish", "activate_output": False}
    sd = state_dict(network((0, 2)), metadata=extras_as_metadata(said))
    found = read_hypernetwork(sd)
    assert (found.activation, found.activate_output) == ("swish", False)


@pytest.mark.parametrize(
    "shapes",
    [
        {},
        {"x.weight": (768, 768)},
        {"768.0.linear.0.weight": (768, 768)},
        {"768.0.linear.0.bias": (768,), "768.1.linear.0.bias": (768,)},
        dict.fromkeys(network((0, 1)), (5, 5)),
        {n: s for n, s in network((0, 2)).items() if ".2." not in n},
        {**network((0, 2)), "768.0.linear.9.weight": (768, 768, 3)},
    ],
)
def test_layers_that_form_no_chain_are_refused(shapes: Shapes) -> None:
    with pytest.raises(CorruptFile):
        read_hypernetwork(state_dict(shapes))
