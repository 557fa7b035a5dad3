"""Mistakes of other programs, mended and named."""

from __future__ import annotations

import struct

import pytest
from helpers.sd1 import CLIP, OLD_CLIP, clip_shapes, prefixed, state_dict, stored

from converters.dtypes import DType
from converters.statedict import StateDict
from converters.transform.repair import repair

NAME = CLIP + "embeddings.position_ids"
RIGHT = struct.pack("<4q", 0, 1, 2, 3)


@pytest.mark.parametrize(
    ("dtype", "data"),
    [
        (DType.F32, struct.pack("<4f", 0, 1, 2, 3)),
        (DType.F16, struct.pack("<4e", 0, 1, 2.001, 3)),
        (DType.I32, struct.pack("<4i", 0, 1, 2, 3)),
        (DType.I64, struct.pack("<4q", 0, 1, 2, 2)),
        (DType.F32, struct.pack("<4f", float("nan"), 1, 2, 3)),
    ],
)
def test_positions_that_do_not_count_up_are_made_anew(dtype: DType, data: bytes) -> None:
    state, notes = repair(StateDict({NAME: stored(dtype, (1, 4), data)}))
    assert (state[NAME].dtype, state[NAME].shape) == (DType.I64, (1, 4))
    assert bytes(state[NAME].read()) == RIGHT
    assert notes == (f"repaired {NAME}: not the whole numbers 0..3",)


def test_right_positions_are_left_as_they_are() -> None:
    before = StateDict({NAME: stored(DType.I64, (1, 4), RIGHT)})
    state, notes = repair(before)
    assert state[NAME] is before[NAME]
    assert notes == ()


def test_names_of_old_text_encoders_become_those_of_today() -> None:
    shapes = {**prefixed(OLD_CLIP, clip_shapes()), "model.diffusion_model.out.0.bias": (4,)}
    del shapes[OLD_CLIP + "embeddings.position_ids"]
    state, notes = repair(state_dict(shapes))
    expected = prefixed(CLIP, clip_shapes()).keys() - {NAME}
    assert state.keys() == expected | {"model.diffusion_model.out.0.bias"}
    first = "embeddings.token_embedding.weight"
    assert notes == (f"repaired 196 names as {OLD_CLIP}{first} to {CLIP}{first}",)


def test_of_two_spellings_none_is_renamed() -> None:
    both = state_dict({**prefixed(OLD_CLIP, clip_shapes()), **prefixed(CLIP, {"x": (1,)})})
    without = both.select(lambda name: not name.endswith("position_ids"))
    state, notes = repair(without)
    assert (state.keys(), notes) == (without.keys(), ())
