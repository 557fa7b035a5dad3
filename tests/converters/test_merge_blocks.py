"""Block weights: which layers each number of a list is for."""

from __future__ import annotations

import pytest
import torch
from helpers.pipelines import checkpoint
from helpers.sd1 import UNET, lora_shapes, random_fill, state_dict

from converters.adapters.targets import Target
from converters.compute import value
from converters.dtypes import DType
from converters.errors import BadValue
from converters.identify import Base
from converters.merge import AdapterChoice, plan_merge
from converters.merge.blocks import LISTS, PRESETS, block_weights


def _layer(slot: str | None, component: str = "unet") -> Target:
    return Target("t", component, (1, 1), slot)


def _list(base: Base, length: int) -> str:
    return ",".join(str(n) for n in range(1, length + 1))


@pytest.mark.parametrize(
    ("base", "length", "slots"),
    [
        (Base.SD1, 26, {"IN00": 2, "IN11": 13, "M00": 14, "OUT00": 15, "OUT11": 26, "OUT": 26}),
        (Base.SD1, 17, {"IN00": 0, "IN01": 2, "IN04": 4, "M00": 8, "OUT02": 0, "OUT03": 9}),
        (Base.SD2, 17, {"IN08": 7, "OUT11": 17, "OUT": 17}),
        (Base.SDXL, 20, {"IN00": 2, "IN08": 10, "M00": 11, "OUT00": 12, "OUT08": 20, "OUT": 20}),
        (Base.SDXL, 12, {"IN03": 0, "IN04": 2, "M00": 6, "OUT05": 12, "OUT06": 0}),
        (Base.SDXL_REFINER, 26, {"OUT": 26}),
        (Base.FLUX, 61, {"IN": 3, "D00": 4, "D18": 22, "S00": 23, "S37": 60, "OUT": 61}),
    ],
)
def test_the_length_of_a_list_tells_its_slots_and_others_count_zero(
    base: Base, length: int, slots: dict[str, float]
) -> None:
    weights = block_weights(_list(base, length), base)
    assert {slot: weights.of(_layer(slot)) for slot in slots} == slots
    assert weights.of(_layer(None)) == 0


def test_the_first_number_is_for_all_text_encoders() -> None:
    weights = block_weights(_list(Base.SDXL, 12), Base.SDXL)
    for encoder in ("text_encoder", "text_encoder_2"):
        assert weights.of(_layer(None, encoder)) == 1
    flux = block_weights(_list(Base.FLUX, 61), Base.FLUX)
    assert flux.of(_layer(None, "text_encoder")) == 1
    assert flux.of(_layer(None, "text_encoder_3")) == 2


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_lists_of_17_or_flux_s_of_61(name: str) -> None:
    base = Base.FLUX if name == "FLUXALL" else Base.SD1
    assert len(PRESETS[name]) == len(LISTS[base][-1])
    assert block_weights(name.lower(), base) == block_weights(
        ",".join(map(str, PRESETS[name])), base
    )


@pytest.mark.parametrize("base", LISTS)
@pytest.mark.parametrize(("name", "number"), [("ALL", 1), ("none", 0), ("ALL0.5", 0.5)])
def test_presets_of_one_number_serve_every_family(name: str, number: float, base: Base) -> None:
    found = block_weights(name, base).by_slot
    assert set(found.values()) == {number}
    assert tuple(found) in LISTS[base]
    if base not in (Base.SD1, Base.SD2):
        assert tuple(found) == max(LISTS[base], key=len)


OF_THE_EXTENSION = {
    "INS": "1,1,1,1,0,0,0,0,0,0,0,0,0,0,0,0,0",
    "IND": "1,0,0,0,1,1,1,0,0,0,0,0,0,0,0,0,0",
    "INALL": "1,1,1,1,1,1,1,0,0,0,0,0,0,0,0,0,0",
    "MIDD": "1,0,0,0,1,1,1,1,1,1,1,1,0,0,0,0,0",
    "OUTD": "1,0,0,0,0,0,0,0,1,1,1,1,0,0,0,0,0",
    "OUTS": "1,0,0,0,0,0,0,0,0,0,0,0,1,1,1,1,1",
    "OUTALL": "1,0,0,0,0,0,0,0,1,1,1,1,1,1,1,1,1",
}
"""As it writes them for itself."""


@pytest.mark.parametrize("name", OF_THE_EXTENSION)
def test_presets_are_those_of_the_extension(name: str) -> None:
    assert block_weights(name, Base.SD1) == block_weights(OF_THE_EXTENSION[name], Base.SD1)
    assert OF_THE_EXTENSION.keys() == {n for n in PRESETS if len(set(PRESETS[n])) > 1}


def test_presets_say_what_their_names_promise() -> None:
    ind, outs = (block_weights(name, Base.SD1) for name in ("IND", "OUTS"))
    slots = LISTS[Base.SD1][1]
    assert [s for s in slots if ind.by_slot[s]] == ["BASE", "IN05", "IN07", "IN08"]
    assert [s for s in slots if outs.by_slot[s]] == ["BASE", *(f"OUT{n:02}" for n in range(7, 12))]


@pytest.mark.parametrize(
    ("text", "base", "words"),
    [
        ("1,0,1", Base.SD1, "3 block weights in '1,0,1'; a list for SD1 has 26 or 17"),
        ("INS", Base.SDXL, "17 block weights in 'INS'; a list for SDXL has 20 or 12"),
        ("1,,1", Base.SD1, "neither numbers"),
        ("nan", Base.SD1, "neither numbers"),
        ("", Base.SD1, "neither numbers"),
        ("ALL", Base.WAN, "not defined for Wan"),
    ],
)
def test_other_lists_are_refused(text: str, base: Base, words: str) -> None:
    with pytest.raises(BadValue, match=words):
        block_weights(text, base)


def test_a_merge_multiplies_each_layer_by_the_number_of_its_slot() -> None:
    model = checkpoint("sd-1", DType.F32)
    up = "lora_unet_up_blocks_1_attentions_0_proj_in"
    query = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    shapes = lora_shapes({query: (32, 32), up: (32, 32)})
    adapter = state_dict(shapes, DType.F32, fill=random_fill(DType.F32, 1.0))
    blocks = ["0"] * 26
    blocks[2], blocks[16] = "0.5", "-1"  # IN01, OUT02
    plan = plan_merge(model, [AdapterChoice("a", adapter, 2.0, None, ",".join(blocks))])
    targets = {query: "input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"}
    targets[up] = "output_blocks.2.1.proj_in.weight"
    for (module, name), strength in zip(targets.items(), (1.0, -2.0), strict=True):
        parts = (value(adapter[f"{module}.lora_{p}.weight"]).flatten(1) for p in ("up", "down"))
        left, right = parts
        alpha = value(adapter[f"{module}.alpha"]) / 4
        before, after = value(model[UNET + name]), value(plan.state_dict[UNET + name])
        expected = before.flatten(1) + strength * alpha * left @ right
        torch.testing.assert_close(after.flatten(1), expected)


def test_a_slot_of_weight_zero_leaves_its_tensors_as_they_are() -> None:
    model = checkpoint("sd-1", DType.F32)
    adapter = state_dict(lora_shapes({"lora_te_text_model_encoder_layers_0_mlp_fc1": (64, 768)}))
    plan = plan_merge(model, [AdapterChoice("a", adapter, 1.0, None, "NONE")])
    assert plan.changed == ()
    assert plan.reports[0].applied == 1


def test_the_error_of_a_list_names_the_adapter() -> None:
    model = checkpoint("sd-1", filled=False)
    adapter = state_dict(lora_shapes({"lora_te_text_model_encoder_layers_0_mlp_fc1": (64, 768)}))
    with pytest.raises(BadValue, match="style: 2 block weights"):
        plan_merge(model, [AdapterChoice("style", adapter, block_weights="1,1")])
