"""Identification: Stable Diffusion 1 exactly, neighbours by name, anything else unknown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest
from helpers.sd1 import (
    CLIP,
    OLD_CLIP,
    SMALL,
    TRUE,
    UNET,
    VAE,
    Shapes,
    checkpoint_shapes,
    clip_shapes,
    kohya_modules,
    kohya_text_modules,
    lora_shapes,
    prefixed,
    state_dict,
    unet_shapes,
    vae_shapes,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.dtypes import DType
from converters.identify import ROWS, Base, Kind, Prediction, claims, identify
from converters.layouts import unet_to_diffusers, vae_to_diffusers
from converters.statedict import StateDict

SD2 = replace(SMALL, context=1024, linear=True)
SDXL = replace(
    TRUE,
    channels=(32, 64, 128),
    attention=(False, True, True),
    depths=(0, 2, 10),
    context=2048,
    adm=2816,
    linear=True,
)
SDXL_LORA: dict[str, tuple[int, ...]] = {
    "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k": (640, 2048),
    "lora_te1_text_model_encoder_layers_0_mlp_fc1": (3072, 768),
    "lora_te2_text_model_encoder_layers_0_mlp_fc1": (5120, 1280),
}
HYPERNETWORK: Shapes = {
    f"{width}.{side}.linear.{index}.{part}": shape
    for width in (768, 64)
    for side in (0, 1)
    for index, sizes in ((0, (2 * width, width)), (2, (width, 2 * width)))
    for part, shape in (("weight", sizes), ("bias", sizes[:1]))
}
NOVELAI: Shapes = {
    f"{width}.{side}.linear{number}.{part}": shape
    for width in (320, 640, 768, 1280)
    for side in (0, 1)
    for number, sizes in ((1, (2 * width, width)), (2, (width, 2 * width)))
    for part, shape in (("weight", sizes), ("bias", sizes[:1]))
}


def diffusers(shapes: Shapes, kind: str) -> Shapes:
    convert = {"unet": unet_to_diffusers, "vae": vae_to_diffusers}[kind]
    return {name: tensor.shape for name, tensor in convert(state_dict(shapes)).items()}


FIXTURES: Mapping[str, tuple[Shapes, Kind, Base, str | None]] = {
    "checkpoint": (checkpoint_shapes(), Kind.CHECKPOINT, Base.SD1, None),
    "small checkpoint": (checkpoint_shapes(SMALL), Kind.CHECKPOINT, Base.SD1, None),
    "old text encoder": (
        checkpoint_shapes(SMALL, clip_prefix=OLD_CLIP),
        *(Kind.CHECKPOINT, Base.SD1, None),
    ),
    "inpaint": (
        checkpoint_shapes(replace(SMALL, in_channels=9)),
        *(Kind.CHECKPOINT, Base.SD1, "inpaint"),
    ),
    "pix2pix": (
        checkpoint_shapes(replace(SMALL, in_channels=8)),
        *(Kind.CHECKPOINT, Base.SD1, "pix2pix"),
    ),
    "unet alone": (
        prefixed(UNET, unet_shapes(SMALL)),
        *(Kind.DIFFUSION_MODEL, Base.SD1, None),
    ),
    "unet alone, no prefix": (unet_shapes(SMALL), Kind.DIFFUSION_MODEL, Base.SD1, None),
    "diffusers unet": (
        diffusers(unet_shapes(SMALL), "unet"),
        *(Kind.DIFFUSION_MODEL, Base.SD1, None),
    ),
    "vae": (vae_shapes(), Kind.VAE, Base.SD1, None),
    "small vae": (vae_shapes(SMALL), Kind.VAE, Base.SD1, None),
    "vae with prefix": (prefixed(VAE, vae_shapes(SMALL)), Kind.VAE, Base.SD1, None),
    "vae with loss": (
        {**vae_shapes(SMALL), "loss.logvar": (), "model_ema.decay": ()},
        *(Kind.VAE, Base.SD1, None),
    ),
    "diffusers vae": (diffusers(vae_shapes(SMALL), "vae"), Kind.VAE, Base.SD1, None),
    "16-channel vae": (vae_shapes(replace(SMALL, latent=16)), Kind.VAE, Base.UNKNOWN, None),
    "lora": (lora_shapes(kohya_modules() | kohya_text_modules()), Kind.LORA, Base.SD1, None),
    "small lora": (lora_shapes(kohya_modules(SMALL)), Kind.LORA, Base.SD1, None),
    "text-encoder lora": (lora_shapes(kohya_text_modules()), Kind.LORA, Base.SD1, None),
    "lora of text-encoder feed-forward layers": (
        lora_shapes({"lora_te_text_model_encoder_layers_0_mlp_fc1": (3072, 768)}),
        *(Kind.LORA, Base.SD1, None),
    ),
    "unet lora without cross-attention": (
        lora_shapes({"lora_unet_down_blocks_0_attentions_0_proj_in": (320, 320, 1, 1)}),
        *(Kind.LORA, Base.UNKNOWN, None),
    ),
    "the same with a text encoder": (
        lora_shapes(
            {"lora_unet_down_blocks_0_attentions_0_proj_in": (320, 320, 1, 1)}
            | kohya_text_modules()
        ),
        *(Kind.LORA, Base.SD1, None),
    ),
    "sd2 lora": (lora_shapes(kohya_modules(SD2)), Kind.LORA, Base.SD2, None),
    "sdxl lora": (lora_shapes(SDXL_LORA), Kind.LORA, Base.SDXL, None),
    "language model lora": (
        {"base_model.model.transformer.h.0.attn.c_attn.lora_A.weight": (4, 768)},
        *(Kind.LORA, Base.UNKNOWN, None),
    ),
    "a1111 embedding": ({"string_to_param.*": (4, 768)}, Kind.EMBEDDING, Base.SD1, None),
    "diffusers embedding": ({"<cat>": (768,)}, Kind.EMBEDDING, Base.SD1, None),
    "sd2 embedding": ({"<cat>": (2, 1024)}, Kind.EMBEDDING, Base.SD2, None),
    "emb_params": ({"emb_params": (8, 768)}, Kind.EMBEDDING, Base.SD1, None),
    "clip_l": ({"clip_l": (8, 768)}, Kind.EMBEDDING, Base.SD1, None),
    "sdxl embedding": (
        {"clip_l": (8, 768), "clip_g": (8, 1280)},
        *(Kind.EMBEDDING, Base.SDXL, None),
    ),
    "hypernetwork": (HYPERNETWORK, Kind.HYPERNETWORK, Base.SD1, None),
    "novelai hypernetwork": (NOVELAI, Kind.HYPERNETWORK, Base.SD1, None),
    "sd2 checkpoint": (
        {**prefixed(UNET, unet_shapes(SD2)), "cond_stage_model.model.ln_final.weight": (1024,)},
        *(Kind.CHECKPOINT, Base.SD2, None),
    ),
    "sdxl checkpoint": (
        {**prefixed(UNET, unet_shapes(SDXL)), **prefixed(VAE, vae_shapes(SMALL))},
        *(Kind.CHECKPOINT, Base.SDXL, None),
    ),
    "controlnet": (
        {
            **prefixed("control_model.", unet_shapes(SMALL)),
            "control_model.zero_convs.0.0.bias": (1,),
        },
        *(Kind.CONTROLNET, Base.SD1, None),
    ),
    "diffusers controlnet": (
        {
            **diffusers(unet_shapes(SMALL), "unet"),
            "controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3),
        },
        *(Kind.CONTROLNET, Base.SD1, None),
    ),
    "text encoder": (
        prefixed("text_model.", clip_shapes(SMALL)),
        *(Kind.TEXT_ENCODER, Base.UNKNOWN, None),
    ),
    "upscaler": (
        {"conv_first.weight": (64, 3, 3, 3), "body.0.rdb1.conv1.weight": (32, 64, 3, 3)},
        *(Kind.UPSCALER, Base.ANY, None),
    ),
    "flux": (
        {
            "double_blocks.0.img_attn.norm.key_norm.scale": (128,),
            "img_in.weight": (3072, 64),
            "vector_in.in_layer.weight": (3072, 768),
        },
        *(Kind.DIFFUSION_MODEL, Base.FLUX, None),
    ),
    "sd3": (
        {"model.diffusion_model.joint_blocks.0.context_block.attn.qkv.weight": (4608, 1536)},
        *(Kind.DIFFUSION_MODEL, Base.SD3, None),
    ),
    "checkpoint that lost its unet": (
        {
            name: shape
            for name, shape in checkpoint_shapes(SMALL).items()
            if not name.startswith(UNET)
        },
        *(Kind.CHECKPOINT, Base.UNKNOWN, None),
    ),
    "indexed lora": (
        {
            f"unet:{n}:{side}": (320, 4) if side == "up" else (4, 768)
            for n in range(8)
            for side in ("up", "down")
        },
        *(Kind.LORA, Base.SD1, None),
    ),
    "numbered lora": (
        {str(n): (4, 1024) if n % 2 else (320, 4) for n in range(16)},
        *(Kind.LORA, Base.SD2, None),
    ),
    "t2i adapter": ({"body.0.in_conv.weight": (1,)}, Kind.T2I_ADAPTER, Base.UNKNOWN, None),
    "ip adapter": (
        {"image_proj.norm.bias": (768,), "ip_adapter.1.to_k_ip.weight": (320, 768)},
        *(Kind.IP_ADAPTER, Base.SD1, None),
    ),
    "motion module": (
        {"down_blocks.0.motion_modules.0.temporal_transformer.norm.bias": (320,)},
        *(Kind.MOTION_MODULE, Base.UNKNOWN, None),
    ),
    "clip vision": (
        {"vision_model.embeddings.patch_embedding.weight": (1024, 3, 14, 14)},
        *(Kind.CLIP_VISION, Base.ANY, None),
    ),
    "aesthetic gradient": ({"tensor": (1, 768)}, Kind.UNKNOWN, Base.UNKNOWN, None),
    "prompt encoding": ({"tensor": (1, 77, 768)}, Kind.UNKNOWN, Base.UNKNOWN, None),
    "linear probe": ({"weight": (1, 768), "bias": (1,)}, Kind.UNKNOWN, Base.UNKNOWN, None),
    "lone layer": ({"proj.weight": (768, 768)}, Kind.UNKNOWN, Base.UNKNOWN, None),
    "big matrix": ({"<t>": (49408, 768)}, Kind.UNKNOWN, Base.UNKNOWN, None),
    "nothing": ({}, Kind.UNKNOWN, Base.UNKNOWN, None),
    "speech model": ({"encoder.0.weight": (16, 1, 3)}, Kind.UNKNOWN, Base.UNKNOWN, None),
}


@pytest.mark.parametrize("name", FIXTURES)
def test_each_file_is_what_it_is(name: str) -> None:
    shapes, kind, base, variant = FIXTURES[name]
    identity = identify(state_dict(shapes))
    assert (identity.kind, identity.base, identity.variant) == (kind, base, variant)
    assert identity.evidence
    assert 0 <= identity.confidence <= 1


@pytest.mark.parametrize("name", FIXTURES)
def test_no_two_rows_claim_one_file(name: str) -> None:
    assert len(claims(state_dict(FIXTURES[name][0]))) <= 1


def test_every_row_has_a_fixture_and_beats_only_rows_that_exist() -> None:
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
    assert {beaten for row in ROWS for beaten in row.beats} <= set(names)
    claimed = {row.name for shapes, *_ in FIXTURES.values() for row in claims(state_dict(shapes))}
    assert claimed == set(names)


def test_a_complete_checkpoint_has_no_problems_and_its_parts_are_counted() -> None:
    identity = identify(state_dict(checkpoint_shapes()))
    assert identity.problems == ()
    assert (identity.prediction, identity.layout, identity.confidence) == (
        *(Prediction.EPSILON, "ldm", 1.0),
    )
    assert {c.name: (c.tensors, c.parameters) for c in identity.components} == {
        "unet": (686, 859_520_964),
        "vae": (248, 83_653_863),
        "text_encoder": (197, 123_060_480 + 77),
    }
    assert any("width 768" in sentence for sentence in identity.evidence)


def test_ema_copies_and_schedule_buffers_are_counted_apart() -> None:
    shapes = {**checkpoint_shapes(SMALL), "model_ema.decay": (), "betas": (1000,)}
    parts = {c.name: c.tensors for c in identify(state_dict(shapes)).components}
    assert (parts["unet_ema"], parts["other"]) == (1, 1)


@pytest.mark.parametrize(
    ("dropped", "words"),
    [
        (VAE, "no VAE"),
        ("cond_stage_model.", "no text encoder"),
        (f"{UNET}output_blocks.1.", "UNet is incomplete"),
        (f"{UNET}input_blocks.0.0.", "UNet is incomplete"),
        (f"{VAE}decoder.up.0.block.0.conv1.", "VAE is incomplete"),
        (f"{VAE}encoder.", "VAE is incomplete"),
        (f"{CLIP}encoder.layers.0.mlp.fc1.", "text encoder is incomplete"),
        (UNET, "the UNet is missing"),
    ],
)
def test_a_checkpoint_with_missing_parts_is_recognised_and_its_problem_named(
    dropped: str, words: str
) -> None:
    sd = state_dict(checkpoint_shapes(SMALL)).select(lambda name: not name.startswith(dropped))
    identity = identify(sd)
    assert identity.kind is Kind.CHECKPOINT
    assert any(words in problem for problem in identity.problems)
    assert identity.confidence < 1


def test_a_checkpoint_that_lost_one_tensor_names_it() -> None:
    lost = f"{UNET}middle_block.1.proj_in.weight"
    identity = identify(state_dict(checkpoint_shapes(SMALL)).drop({lost}))
    assert identity.base is Base.SD1
    (problem,) = identity.problems
    assert problem.startswith("the UNet is incomplete: 1 of 286 tensors are missing")
    assert problem.endswith("middle_block.1.proj_in.weight")


def test_a_foreign_text_encoder_in_an_sd1_checkpoint_is_a_problem() -> None:
    sd = state_dict(
        {**prefixed(UNET, unet_shapes(SMALL)), "cond_stage_model.roberta.pooler.bias": (1,)}
    )
    assert "the text encoder is not the CLIP of SD1" in identify(sd).problems


def test_a_stated_v_prediction_is_believed() -> None:
    sd = state_dict(checkpoint_shapes(SMALL)).with_metadata({"modelspec.prediction_type": "v"})
    assert identify(sd).prediction is Prediction.V


def test_the_vae_of_sdxl_shares_its_shapes_so_confidence_is_low_unless_metadata_tells() -> None:
    sd = state_dict(vae_shapes())
    assert identify(sd).confidence < 0.7
    told = sd.with_metadata({"modelspec.architecture": "stable-diffusion-xl-v1-base/vae"})
    assert identify(told).base is Base.SDXL


def test_a_few_adapter_tensors_do_not_make_a_checkpoint_a_lora() -> None:
    shapes = {**checkpoint_shapes(SMALL), **lora_shapes(kohya_text_modules())}
    assert identify(state_dict(shapes)).kind is Kind.CHECKPOINT


@pytest.mark.parametrize(
    ("extra", "algorithm"),
    [
        ({}, ("lora",)),
        ({"lora_unet_x.lora_down.weight": (4, 8, 3, 3)}, ("locon",)),
        ({"lora_unet_x.lora_mid.weight": (4, 4, 3, 3)}, ("locon",)),
        ({"lora_unet_x.dora_scale": (8, 1)}, ("dora", "lora")),
        ({"lora_unet_x.hada_w1_a": (8, 4)}, ("loha", "lora")),
        ({"lora_unet_x.lokr_w1": (8, 4)}, ("lokr", "lora")),
        ({"lora_unet_x.oft_blocks": (2, 4, 4)}, ("lora", "oft")),
        ({"lora_unet_x.oft_blocks": (2, 2, 4, 4)}, ("boft", "lora")),
        ({"lora_unet_x.diff": (8, 8)}, ("full", "lora")),
        ({"lora_unet_x.a1.weight": (8, 4)}, ("glora", "lora")),
        ({"lora_unet_x.on_input": ()}, ("ia3", "lora")),
        ({"lora_unet_x.w_norm": (8,)}, ("lora", "norm")),
    ],
)
def test_algorithms_are_told_by_suffix(extra: Shapes, algorithm: tuple[str, ...]) -> None:
    sd = state_dict({**lora_shapes(kohya_modules(SMALL)), **extra})
    assert identify(sd).algorithm == algorithm


def test_rank_layout_and_components_of_a_lora() -> None:
    modules = kohya_modules(SMALL) | kohya_text_modules(SMALL)
    identity = identify(state_dict(lora_shapes(modules, rank=16)))
    assert (identity.rank, identity.layout, identity.algorithm) == (16, "kohya", ("lora",))
    assert {c.name: c.tensors for c in identity.components} == {"unet": 15, "text_encoder": 6}


def test_differing_ranks_are_named() -> None:
    shapes = lora_shapes(kohya_modules(SMALL), 8) | lora_shapes(kohya_text_modules(SMALL), 4)
    identity = identify(state_dict(shapes))
    assert identity.rank == 8
    assert "ranks differ between modules: 4, 8" in identity.evidence


def test_contradicting_context_widths_are_no_family() -> None:
    modules = {
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k": (320, 768),
        "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k": (640, 2048),
    }
    assert identify(state_dict(lora_shapes(modules))).base is Base.UNKNOWN


def test_trigger_words_are_taken_from_what_a_file_says() -> None:
    lora = state_dict(lora_shapes(kohya_modules(SMALL)))
    phrase = lora.with_metadata({"modelspec.trigger_phrase": "a sks dog"})
    assert identify(phrase).trigger_words == ("a sks dog",)
    keywords = lora.with_metadata({"ssmd_keywords": "sks, dog"})
    assert identify(keywords).trigger_words == ("sks", "dog")


def test_trigger_words_are_guessed_from_training_captions() -> None:
    folder = {"10_sks dog": {"sks dog": 20, "grass": 7}}
    images = {"10_sks dog": {"n_repeats": 10, "img_count": 20}}
    lora = state_dict(lora_shapes(kohya_modules(SMALL)))
    both = {"ss_tag_frequency": json.dumps(folder), "ss_dataset_dirs": json.dumps(images)}
    assert identify(lora.with_metadata(both)).trigger_words == ("sks dog",)
    named = {"ss_tag_frequency": json.dumps({"4_fox": {"red": 3}})}
    assert identify(lora.with_metadata(named)).trigger_words == ("fox",)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": 3}', "[" * 5000, '{"1_a": {"b": []}}'])
def test_metadata_that_does_not_parse_is_passed_over(text: str) -> None:
    lora = state_dict(lora_shapes(kohya_modules(SMALL)))
    metadata = {"ss_tag_frequency": text, "ss_dataset_dirs": text}
    assert set(identify(lora.with_metadata(metadata)).trigger_words) <= {"a"}


def test_the_trigger_of_an_embedding_is_its_token_or_stored_name() -> None:
    assert identify(state_dict({"<cat>": (768,)})).trigger_words == ("<cat>",)
    a1111 = state_dict({"string_to_param.*": (2, 768)})
    named = StateDict(a1111.tensors, {}, {"name": "my-cat", "step": 100})
    assert identify(named).trigger_words == ("my-cat",)


def test_token_vectors_are_floating_point() -> None:
    assert identify(state_dict({"<cat>": (768,)}, DType.U8)).kind is Kind.UNKNOWN


def test_half_a_hypernetwork_is_unknown() -> None:
    keys_only = {name: shape for name, shape in HYPERNETWORK.items() if ".0.linear" in name}
    assert identify(state_dict(keys_only)).kind is Kind.UNKNOWN
    wrong_width = dict.fromkeys(HYPERNETWORK, (3, 3))
    assert identify(state_dict(wrong_width)).kind is Kind.UNKNOWN


def test_what_is_unknown_says_why_and_shows_its_first_tensors() -> None:
    identity = identify(state_dict({"a.b": (1, 2), "c": (3,)}))
    assert identity.evidence == (
        "the names and shapes fit no known kind",
        "it has a.b of shape [1, 2]",
        "it has c of shape [3]",
    )


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({}, "no tensors"),
        ({"tensor": (1, 768)}, "aesthetic gradients"),
        ({"weight": (1, 768), "bias": (1,)}, "single linear layer"),
        ({"1.weight": (64, 4, 3, 3), "3.conv.0.weight": (64, 64, 3, 3)}, "TAESD"),
        ({"logit_scale": (), "vision_model.x": (1,)}, "both halves"),
    ],
)
def test_well_known_neighbours_are_hinted_at(shapes: Shapes, words: str) -> None:
    identity = identify(state_dict(shapes))
    assert identity.kind is Kind.UNKNOWN
    assert words in identity.evidence[0]


FRAGMENTS = sorted({name for shapes, *_ in FIXTURES.values() for name in list(shapes)[:40]})


@given(
    st.dictionaries(
        st.sampled_from(FRAGMENTS),
        st.lists(st.sampled_from([0, 1, 4, 320, 768, 1024, 2048]), max_size=4).map(tuple),
        max_size=12,
    )
)
@settings(deadline=None)
def test_identification_never_fails_whatever_names_and_shapes_come_together(shapes: Shapes) -> None:
    identity = identify(state_dict(shapes))
    assert identity.evidence
