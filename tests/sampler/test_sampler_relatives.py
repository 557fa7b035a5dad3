"""Which layers of a UNet stand where a relative has others."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.sd1 import stored

from assetmgr.sampler.verdicts.relatives import likeness
from converters.dtypes import DType
from converters.statedict import StateDict

UNET = "model.diffusion_model."
LAYERS = ("a", "b", "c", "d")


def unet(seed: int, places: str = "abcd", noise: float = 0.0) -> StateDict:
    """Four layers of one shape with random values; `places` says whose values each has."""
    numbers = np.random.default_rng(seed)
    values = {name: numbers.normal(size=(64, 64)).astype(np.float32) for name in LAYERS}
    other = np.random.default_rng(seed + 100)
    state = StateDict({}, {})
    for name, whose in zip(LAYERS, places, strict=True):
        changed = values[whose] + noise * other.normal(size=(64, 64)).astype(np.float32)
        for end, part in (("weight", changed), ("bias", changed[0])):
            full = f"{UNET}{name}.{end}"
            state = state.overlay({full: stored(DType.F32, part.shape, part.tobytes(), full)})
    return state


@pytest.mark.parametrize(
    ("places", "exchanged"),
    [
        ("abcd", {}),
        ("bacd", {"a": "b", "b": "a"}),
        ("bcad", {"a": "b", "b": "c", "c": "a"}),
        ("aacd", {}),  # copied over another: a model grown deeper does so on purpose
        ("badd", {"a": "b", "b": "a"}),
    ],
)
def test_layers_that_changed_places_are_named_with_whose_place_is_theirs(
    places: str, exchanged: dict[str, str]
) -> None:
    found = likeness(unet(1, places, noise=0.5), unet(1))
    expected = {f"{UNET}{a}.weight": f"{UNET}{b}.weight" for a, b in exchanged.items()}
    assert (found.are_relatives, found.exchanged, found.compared) == (True, expected, 4)


def test_put_back_every_weight_and_bias_is_where_the_relative_has_it() -> None:
    mixed, healthy = unet(1, "bcad"), unet(1)
    back = likeness(mixed, healthy).put_back(mixed)
    assert {name: bytes(t.read()) for name, t in back.items()} == {
        name: bytes(t.read()) for name, t in healthy.items()
    }


def test_models_of_other_origin_are_no_relatives() -> None:
    found = likeness(unet(1), unet(2))
    assert (found.are_relatives, found.alike, found.exchanged) == (False, 0, {})


def test_models_without_layers_in_common_are_no_relatives() -> None:
    assert not likeness(unet(1), StateDict({}, {})).are_relatives
