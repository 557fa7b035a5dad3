"""A component under the names of another program: the same bytes, and back."""

from __future__ import annotations

import re

import pytest
from helpers.identities import FIXTURES
from helpers.identities.common import HYPERNETWORK, without
from helpers.pipelines import openclip_shapes
from helpers.sd1 import (
    SMALL,
    checkpoint_shapes,
    clip_shapes,
    prefixed,
    random_fill,
    state_dict,
    unet_shapes,
    vae_shapes,
)

from converters.dtypes import DType
from converters.errors import CorruptFile, UnsupportedFile
from converters.identify import Base, Kind, identify
from converters.statedict import StateDict
from converters.transform.layout import LAYOUTS, relayout

SHAPES = {
    ("ldm", "diffusers"): [unet_shapes(SMALL), vae_shapes(SMALL)],
    ("openclip", "hf-clip"): [openclip_shapes(1280, 2)],
}
CASES = [(shapes, *words) for words, several in SHAPES.items() for shapes in several]


def _bytes(state: StateDict) -> dict[str, bytes]:
    return {name: bytes(tensor.read()) for name, tensor in state.items()}


@pytest.mark.parametrize(("shapes", "here", "there"), CASES)
def test_there_and_back_gives_the_same_bytes(
    shapes: dict[str, tuple[int, ...]], here: str, there: str
) -> None:
    original = state_dict(shapes, fill=random_fill())
    other = relayout(original, identify(original), there)
    assert identify(other).layout == there
    assert other.nbytes in (original.nbytes, original.nbytes - 2), "the logit scale is left out"
    again = relayout(other, identify(other), here)
    assert again.keys() == original.keys()
    before, after = _bytes(original), _bytes(again)
    assert {n: b for n, b in after.items() if n != "logit_scale"} == {
        n: b for n, b in before.items() if n != "logit_scale"
    }


@pytest.mark.parametrize(("shapes", "here", "there"), CASES)
def test_its_own_layout_changes_nothing(
    shapes: dict[str, tuple[int, ...]], here: str, there: str
) -> None:
    del there
    original = state_dict(shapes)
    assert relayout(original, identify(original), here).keys() == original.keys()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_kinds_that_have_no_such_layout_are_refused(layout: str) -> None:
    unknown = state_dict({"fox": (2, 3)})
    assert identify(unknown).kind is Kind.UNKNOWN
    said = re.escape(f"kind unknown, which has no layout {layout}")
    with pytest.raises(UnsupportedFile, match=said):
        relayout(unknown, identify(unknown), layout)


def test_a_lone_tensor_without_a_name_can_be_token_vectors() -> None:
    bare = state_dict({"tensor": (2, 768)})
    assert relayout(bare, identify(bare), "emb_params").keys() == {"emb_params"}
    other = state_dict({"tensor": (2, 700)})
    with pytest.raises(UnsupportedFile, match="no layout emb_params"):
        relayout(other, identify(other), "emb_params")


def test_a_file_of_several_embeddings_has_no_form() -> None:
    several = state_dict({"<a>": (1, 768), "<b>": (2, 768)})
    with pytest.raises(UnsupportedFile, match="holds 2 embeddings"):
        relayout(several, identify(several), "a1111")


def test_a_whole_checkpoint_and_a_hypernetwork_keep_the_layout_they_have() -> None:
    for shapes, layout in ((checkpoint_shapes(SMALL), "ldm"), (HYPERNETWORK, "a1111")):
        state = state_dict(shapes)
        assert relayout(state, identify(state), layout) is state


def test_an_encoder_under_its_prefix_in_a_checkpoint_gets_the_names_of_openclip() -> None:
    shapes = prefixed("cond_stage_model.transformer.text_model.", clip_shapes(SMALL))
    state = state_dict(shapes)
    assert identify(relayout(state, identify(state), "openclip")).layout == "openclip"


def test_an_encoder_without_its_last_norm_is_named_as_broken() -> None:
    shapes = without(prefixed("text_model.", clip_shapes(SMALL)), "final_layer_norm")
    state = state_dict(shapes)
    with pytest.raises(CorruptFile, match=r"no text_model\.final_layer_norm\.weight"):
        relayout(state, identify(state), "openclip")


@pytest.mark.parametrize(("base", "known"), [(Base.SD3, True), (Base.CHROMA, False)])
def test_transformers_get_the_names_of_diffusers_where_these_are_known(
    base: Base, known: bool
) -> None:
    name = {Base.SD3: "sd3.5 large", Base.CHROMA: "chroma"}[base]
    state = state_dict(FIXTURES[name][0])
    if known:
        other = relayout(state, identify(state), "diffusers")
        assert "transformer_blocks.0.attn.add_q_proj.weight" in other
    with pytest.raises(UnsupportedFile, match="is a transformer of"):
        relayout(state, identify(state), "ldm" if known else "diffusers")


ROTATED = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


@pytest.mark.parametrize(
    ("parts", "layout"),
    [
        ({"oft_blocks": (4, 2, 2)}, "lycoris"),
        ({"oft_blocks": (4, 2, 2)}, "comfy"),
        ({"oft_blocks": (2, 4, 2, 2)}, "comfy"),
        ({"weight": (8,), "on_input": ()}, "lycoris"),
    ],
)
def test_adapters_whose_shapes_tell_no_family_go_by_names_that_sd1_and_sd2_share(
    parts: dict[str, tuple[int, ...]], layout: str
) -> None:
    shapes = {f"{ROTATED}.{part}": shape for part, shape in parts.items()}
    file = state_dict(shapes, DType.F32, fill=random_fill(DType.F32))
    assert identify(file).base is Base.UNKNOWN
    there = relayout(file, identify(file), layout)
    assert set(there) != set(file)
    back = relayout(there, identify(there), "kohya")
    assert {name: tensor.read() for name, tensor in back.items()} == {
        name: tensor.read() for name, tensor in file.items()
    }


def test_names_that_other_families_have_too_are_not_guessed() -> None:
    file = state_dict({"lora_unet_mid_block_resnets_0_conv1.oft_blocks": (4, 2, 2)})
    with pytest.raises(UnsupportedFile, match="is for an unknown family"):
        relayout(file, identify(file), "comfy")


def test_a_program_that_does_not_know_an_algorithm_gets_no_file_of_it() -> None:
    file = state_dict({f"{ROTATED}.weight": (8,), f"{ROTATED}.on_input": ()})
    with pytest.raises(UnsupportedFile, match="ia3, which ComfyUI does not know"):
        relayout(file, identify(file), "comfy")
