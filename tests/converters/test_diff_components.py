"""A pipeline beside its single file: the same tensors under the same names."""

from __future__ import annotations

import pytest
from helpers.pipelines import FAMILIES, checkpoint

from converters.diff import digest_differences
from converters.diff_components import Spelled, side_by_side, spelled, spelled_of_digests
from converters.digest import weigh
from converters.identify import identify
from converters.layouts.pipeline import to_components
from converters.statedict import LazyTensor, StateDict
from converters.weights import TensorDigest

LAST = "cond_stage_model.model.transformer.resblocks.2."
"""The block of SD2's text encoder that its pipeline does without."""
OF_FILES_ALONE = {
    "sd-1": set(),
    "sd-2": {"logit_scale", "text_projection", "in_proj_weight", "in_proj_bias"},
    "sdxl": {"logit_scale"},
    "sdxl-refiner": {"logit_scale"},
}
"""The only one of a name that is left is called by the last of its name."""


def _pipeline(state: StateDict) -> StateDict:
    parts = to_components(state, identify(state).base).parts
    named = ((part, *each) for part, inner in parts.items() for each in inner.items())
    return StateDict({f"{part}.{name}": tensor for part, name, tensor in named})


def _kept(state: StateDict) -> Spelled[TensorDigest]:
    """As a library keeps it: names, shapes and digests."""
    kind = identify(state).kind
    beside = spelled(state, kind)
    found = weigh(state, {part: StateDict(inner) for part, inner in beside.parts.items()})
    known = spelled_of_digests(found.parts, found.tensors, kind)
    assert known is not None
    return known


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_of_a_pipeline_has_its_counterpart_in_the_single_file(family: str) -> None:
    state = checkpoint(family)
    left, right = _kept(state), _kept(_pipeline(state))
    beside = side_by_side(left, right)
    told = list(digest_differences(beside.left, beside.right))
    assert beside.unlike == ()
    assert {each.how for each in told} <= {"is only in the first"}
    assert all(each.name.startswith(("text_encoder.", LAST)) for each in told)
    short = {each.name.removeprefix("text_encoder.") for each in told if LAST not in each.name}
    assert short == OF_FILES_ALONE[family]
    assert len(told) - len(short) == (10 if family == "sd-2" else 0)
    assert len(beside.right) > 100


def test_one_of_the_parts_of_a_fused_matrix_is_told_from_the_others() -> None:
    state = checkpoint("sdxl")
    name = "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight"
    fused = state[name]
    rows = fused.shape[0] // 3
    data = bytearray(fused.read())
    data[rows * fused.shape[1] * 2] ^= 1
    changed = LazyTensor(fused.dtype, fused.shape, lambda: bytes(data), "changed")
    beside = side_by_side(_kept(_pipeline(state)), _kept(state.overlay(StateDict({name: changed}))))
    told = [d.name for d in digest_differences(beside.left, beside.right) if "other" in d.how]
    assert told == ["text_encoder_2.text_model.encoder.layers.0.self_attn.k_proj.weight"]


def test_the_same_part_under_other_names_is_found_and_fused_ones_are_said_to_be_unlike() -> None:
    one = TensorDigest("F16", (1,), bytes(16))
    file = Spelled(
        {"unet": dict.fromkeys(("double.qkv", "final"), one), "clip_l": {"a": one, "b": one}}, {}
    )
    folder = Spelled(
        {"transformer": dict.fromkeys(("to_q", "to_k"), one), "text_encoder": {"a": one, "b": one}},
        {"text_encoder.position_ids": one},
    )
    beside = side_by_side(file, folder)
    assert beside.unlike == ("unet",)
    assert beside.left.keys() == {"clip_l.a", "clip_l.b"}
    assert beside.right.keys() == {"clip_l.a", "clip_l.b", "text_encoder.position_ids"}
    assert side_by_side(folder, file).unlike == ("transformer",)


def test_what_was_kept_by_other_rules_is_not_compared() -> None:
    """A component that nobody kept would count as equal."""
    found = weigh(checkpoint("sd-1"), {})
    assert spelled_of_digests({}, found.tensors, "other") is not None
    assert spelled_of_digests({}, found.tensors, "checkpoint") is None
