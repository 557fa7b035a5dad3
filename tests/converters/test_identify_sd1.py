"""Identification of Stable Diffusion 1 in detail: parts, problems, adapters, embeddings."""

from __future__ import annotations

import json

import pytest
from helpers.identities.common import HYPERNETWORK
from helpers.sd1 import (
    CLIP,
    SMALL,
    UNET,
    VAE,
    Shapes,
    checkpoint_shapes,
    kohya_modules,
    kohya_text_modules,
    lora_shapes,
    prefixed,
    state_dict,
    unet_shapes,
    vae_shapes,
)

from converters.dtypes import DType
from converters.identify import Base, Kind, Prediction, identify
from converters.statedict import StateDict


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


def test_a_vae_alone_names_the_families_that_share_its_shapes_unless_metadata_tells() -> None:
    sd = state_dict(vae_shapes())
    assert identify(sd).base is Base.UNKNOWN
    assert any("sd-1, sd-2, sdxl" in sentence for sentence in identify(sd).evidence)
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
    parts = [{"class_tokens": "ohwx man"}, {"class_tokens": "man", "is_reg": True}]
    described = {"ss_datasets": json.dumps([{"subsets": parts}])}
    assert identify(lora.with_metadata(described)).trigger_words == ("ohwx man",)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": 3}', "[" * 5000, '{"1_a": {"b": []}}'])
def test_metadata_that_does_not_parse_is_passed_over(text: str) -> None:
    lora = state_dict(lora_shapes(kohya_modules(SMALL)))
    metadata = {"ss_tag_frequency": text, "ss_dataset_dirs": text, "ss_datasets": text}
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
