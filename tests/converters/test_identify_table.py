"""The identification table as a whole: every row, on files of every kind."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.identities import FIXTURES
from helpers.identities.common import SD2, SDXL
from helpers.identities.unets import UNETS
from helpers.sd1 import (
    SMALL,
    TRUE,
    UNET,
    Shapes,
    checkpoint_shapes,
    kohya_modules,
    lora_shapes,
    prefixed,
    state_dict,
    unet_shapes,
    vae_shapes,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.dtypes import DType
from converters.extras import extras_as_metadata
from converters.identify import ROWS, Base, Kind, Prediction, claims, identify
from converters.identify.denoisers import FAMILIES
from converters.identify.names import Names
from converters.statedict import StateDict


@pytest.mark.parametrize("name", FIXTURES)
def test_each_file_is_what_it_is(name: str) -> None:
    shapes, kind, base, variant = FIXTURES[name]
    identity = identify(state_dict(shapes))
    assert (identity.kind, identity.base, identity.variant) == (kind, base, variant)
    assert identity.evidence
    assert 0 <= identity.confidence <= 1


@pytest.mark.parametrize("name", FIXTURES)
def test_no_two_rows_claim_one_file(name: str) -> None:
    assert len(claims(Names(state_dict(FIXTURES[name][0])))) <= 1


def test_identification_reads_no_tensor_data() -> None:
    sd = state_dict(FIXTURES["checkpoint"][0])
    with pytest.raises(AssertionError, match="tensor data was read"):
        next(iter(sd.values())).read()
    assert identify(sd).kind is Kind.CHECKPOINT


def test_every_row_has_a_fixture_and_beats_only_rows_that_exist() -> None:
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
    assert {beaten for row in ROWS for beaten in row.beats} <= set(names)
    claimed = {
        row.name for shapes, *_ in FIXTURES.values() for row in claims(Names(state_dict(shapes)))
    }
    assert claimed == set(names)


def test_every_variant_of_every_family_has_a_fixture() -> None:
    wanted = {(family.base, word) for family in FAMILIES for word, _ in family.variants}
    shown = {(base, variant) for _, _, base, variant in FIXTURES.values()}
    assert wanted <= shown


@pytest.mark.parametrize("name", UNETS)
def test_a_unet_is_the_same_family_with_the_prefix_of_a_single_file(name: str) -> None:
    shapes, _, base, variant = UNETS[name]
    if "conv_in.weight" in shapes or any(key.startswith(UNET) for key in shapes):
        return
    identity = identify(state_dict(prefixed(UNET, shapes)))
    assert (identity.base, identity.variant, identity.layout) == (base, variant, "ldm")


def test_a_bare_denoiser_takes_all_tensors_and_a_whole_checkpoint_counts_its_parts() -> None:
    flux = FIXTURES["flux dev"][0]
    bare = identify(state_dict(flux))
    assert {part.name: part.tensors for part in bare.components} == {"unet": len(flux)}
    whole = identify(state_dict(FIXTURES["a flux checkpoint"][0]))
    assert {part.name for part in whole.components} == {"unet", "vae", "text_encoder"}
    assert whole.prediction is Prediction.FLOW


MARKERS: dict[str, tuple[Shapes, Prediction]] = {
    "none": ({}, Prediction.EPSILON),
    "v": ({"v_pred": (0,)}, Prediction.V),
    "v with zero terminal SNR": ({"v_pred": (0,), "ztsnr": (0,)}, Prediction.V),
    "edm": ({"edm_vpred.sigma_max": (), "edm_vpred.sigma_min": ()}, Prediction.EDM),
    "playground": ({"edm_mean": (4,), "edm_std": (4,)}, Prediction.EDM),
}


@pytest.mark.parametrize("name", MARKERS)
def test_marker_tensors_of_sdxl_tell_its_prediction(name: str) -> None:
    marks, prediction = MARKERS[name]
    identity = identify(state_dict({**prefixed(UNET, unet_shapes(SDXL)), **marks}))
    assert identity.prediction is prediction
    assert all(any(mark in sentence for sentence in identity.evidence) for mark in [*marks][:1])
    assert any("zero terminal" in said for said in identity.evidence) == ("ztsnr" in marks)


@pytest.mark.parametrize(
    ("steps", "prediction"),
    [
        (None, Prediction.UNKNOWN),
        (875_000, Prediction.EPSILON),
        (220_000, Prediction.EPSILON),
        (110_000, Prediction.V),
        (140_000, Prediction.UNKNOWN),
        ("many", Prediction.UNKNOWN),
    ],
)
def test_the_stored_steps_of_an_sd2_release_tell_its_prediction(
    steps: int | str | None, prediction: Prediction
) -> None:
    sd = state_dict(prefixed(UNET, unet_shapes(SD2)))
    pickled = StateDict(sd.tensors, {}, {"global_step": steps})
    assert identify(pickled).prediction is prediction
    converted = sd.with_metadata(extras_as_metadata({"global_step": steps}))
    assert identify(converted).prediction is prediction


@pytest.mark.parametrize(
    ("key", "text", "prediction"),
    [
        ("modelspec.prediction_type", "v", Prediction.V),
        ("modelspec.prediction_type", "epsilon", Prediction.EPSILON),
        ("modelspec.architecture", "stable-diffusion-v2-768-v", Prediction.V),
        ("modelspec.architecture", "stable-diffusion-v2-512", Prediction.EPSILON),
        ("ss_v_parameterization", "True", Prediction.V),
        ("modelspec.prediction_type", "nonsense", Prediction.UNKNOWN),
    ],
)
def test_metadata_tells_what_an_sd2_predicts(key: str, text: str, prediction: Prediction) -> None:
    sd = state_dict(unet_shapes(SD2), metadata={key: text})
    assert identify(sd).prediction is prediction


def test_an_sd2_for_inpainting_predicts_noise() -> None:
    assert identify(state_dict(FIXTURES["sd2 inpaint"][0])).prediction is Prediction.EPSILON


def test_an_sd2_that_says_nothing_says_so() -> None:
    identity = identify(state_dict(unet_shapes(SD2)))
    assert identity.prediction is Prediction.UNKNOWN
    assert any("nothing in the file tells" in sentence for sentence in identity.evidence)


def test_shapes_win_over_metadata_and_both_are_reported() -> None:
    lora = state_dict(
        lora_shapes(kohya_modules(SMALL)), metadata={"ss_base_model_version": "sdxl_base_v1-0"}
    )
    identity = identify(lora)
    assert identity.base is Base.SD1
    assert "ss_base_model_version says SDXL, which its tensors contradict" in identity.evidence


def test_metadata_names_the_family_of_an_adapter_whose_tensors_do_not() -> None:
    module = {"lora_unet_time_embed_0": (320, 320)}
    lora = state_dict(lora_shapes(module), metadata={"ss_base_model_version": "sd_v2"})
    identity = identify(lora)
    assert identity.base is Base.SD2
    assert identity.confidence < 0.7


def test_names_that_two_families_share_are_less_sure_and_the_other_is_named() -> None:
    module = {
        "diffusion_model.blocks.0.self_attn.q_proj.lora_A.weight": (8, 2048),
        "diffusion_model.blocks.0.self_attn.q_proj.lora_B.weight": (2048, 8),
    }
    identity = identify(state_dict(module))
    assert identity.base is Base.ANIMA
    assert identity.confidence < 0.7
    assert any("cosmos-predict2" in sentence for sentence in identity.evidence)


def test_the_rank_of_a_loha_and_of_a_lokr_are_read_from_their_factors() -> None:
    assert identify(state_dict(FIXTURES["loha"][0])).rank == 4
    lokr: Shapes = {"lora_unet_a.lokr_w1": (4, 4), "lora_unet_a.lokr_w2_b": (8, 160)}
    assert identify(state_dict(lokr)).rank == 8


@pytest.mark.parametrize("b1", [(640, 4), (4, 320)])
def test_the_rank_of_a_glora_is_read_in_both_layouts(b1: tuple[int, int]) -> None:
    assert identify(state_dict({"lora_unet_a.b1.weight": b1})).rank == 4


def test_embeddings_bundled_in_an_adapter_are_its_trigger_words() -> None:
    bundled: Shapes = {"bundle_emb.my-cat.string_to_param.*": (4, 768)}
    identity = identify(state_dict({**lora_shapes(kohya_modules(SMALL)), **bundled}))
    assert identity.kind is Kind.LORA
    assert identity.trigger_words == ("my-cat",)


NAMINGS = {
    "flux lora of onetrainer": "onetrainer",
    "flux lora of xlabs": "xlabs",
    "old diffusers lora": "diffusers-old",
    "flux lora of diffusers": "peft",
    "simple tuner": "lycoris",
}


@pytest.mark.parametrize(("name", "layout"), NAMINGS.items())
def test_the_naming_of_an_adapter_is_its_layout(name: str, layout: str) -> None:
    assert identify(state_dict(FIXTURES[name][0])).layout == layout


def test_the_dominant_element_type_is_evidence() -> None:
    identity = identify(state_dict(checkpoint_shapes(SMALL), DType.BF16))
    assert "100% of its numbers are BF16" in identity.evidence


@pytest.mark.parametrize(
    "marker", ["scaled_fp8", "input_blocks.0.0.scale_weight", "out.2.comfy_quant"]
)
def test_scales_of_quantised_weights_are_evidence(marker: str) -> None:
    shapes = {**unet_shapes(SMALL), marker: (1,)}
    identity = identify(state_dict(shapes))
    assert identity.base is Base.SD1
    assert any(marker.rpartition(".")[2] in sentence for sentence in identity.evidence)


def test_packed_4_bit_weights_are_a_problem() -> None:
    shapes = {**FIXTURES["flux dev"][0], "model.diffusion_model.img_in.weight.absmax": (48,)}
    identity = identify(state_dict(shapes))
    assert identity.base is Base.FLUX
    assert any("bitsandbytes" in problem for problem in identity.problems)


def test_position_ids_that_were_cast_to_floating_point_are_a_problem() -> None:
    sd = state_dict(checkpoint_shapes(SMALL))
    name = next(name for name in sd if name.endswith("position_ids"))
    cast = sd.overlay({name: replace(sd[name], dtype=DType.F16)})
    assert identify(cast).problems == (f"{name} holds whole numbers as F16",)


def test_metadata_about_quantisation_and_averages_are_evidence() -> None:
    shapes = {**checkpoint_shapes(SMALL), "model_ema.decay": ()}
    sd = state_dict(shapes, metadata={"_quantization_metadata": "{}"})
    said = " ".join(identify(sd).evidence)
    assert "_quantization_metadata" in said
    assert "EMA" in said


def test_an_ordinary_16_channel_vae_is_complete() -> None:
    shapes = vae_shapes(replace(TRUE, latent=16))
    plain = {name: size for name, size in shapes.items() if "quant" not in name}
    identity = identify(state_dict(plain))
    assert identity.problems == ()
    assert any("flux" in sentence for sentence in identity.evidence)


def test_training_state_without_tensors_is_unknown_and_says_what_it_is() -> None:
    identity = identify(StateDict({}, {}, {"last_epoch": 4, "base_lrs": [1e-4]}))
    assert identity.kind is Kind.UNKNOWN
    assert "training state (base_lrs, last_epoch)" in identity.evidence[0]
    assert identify(StateDict({})).evidence[0] == "the file holds no tensors"


def test_leftovers_of_a_checkpoint_are_unknown_and_say_so() -> None:
    sd = state_dict({"conditioner.embedders.0.transformer.text_model.x": (1, 77)})
    assert "names of a checkpoint" in identify(sd).evidence[0]


def test_a_name_with_a_line_end_in_it_is_no_other_name() -> None:
    assert identify(state_dict({"a\nmlp_t5.0.weight": (1,)})).kind is Kind.UNKNOWN


FRAGMENTS = sorted({name for shapes, *_ in FIXTURES.values() for name in list(shapes)[:40]})


@given(
    st.dictionaries(
        st.sampled_from(FRAGMENTS),
        st.lists(st.sampled_from([0, 1, 4, 64, 320, 768, 1024, 2048]), max_size=5).map(tuple),
        max_size=12,
    )
)
@settings(deadline=None)
def test_identification_never_fails_whatever_names_and_shapes_come_together(shapes: Shapes) -> None:
    identity = identify(state_dict(shapes))
    assert identity.evidence
