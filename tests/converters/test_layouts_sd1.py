"""The layouts of Stable Diffusion 1: bijective, and equal to what the libraries build."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.examples import examples
from helpers.sd1 import (
    CLIP,
    OLD_CLIP,
    SMALL,
    TRUE,
    UNET,
    VAE,
    Widths,
    checkpoint_shapes,
    clip_shapes,
    prefixed,
    state_dict,
    unet_shapes,
    vae_shapes,
)
from hypothesis import given
from hypothesis import strategies as st

from converters.errors import CorruptFile
from converters.layouts import (
    clip_config,
    clip_to_ldm,
    clip_to_transformers,
    component,
    unet_config,
    unet_to_diffusers,
    unet_to_ldm,
    vae_config,
    vae_to_diffusers,
    vae_to_ldm,
)
from converters.layouts.namemap import NameMap
from converters.layouts.sd_unet import expected_tensors as expected_unet
from converters.layouts.sd_vae import expected_tensors as expected_vae
from converters.layouts.text_encoders import expected_tensors as expected_clip
from converters.statedict import StateDict


@st.composite
def widths(draw: st.DrawFn) -> Widths:
    levels = draw(st.integers(1, 4))
    vae_levels = draw(st.integers(1, 4))
    multiple = st.sampled_from([32, 64, 96])
    return replace(
        SMALL,
        channels=tuple(draw(st.lists(multiple, min_size=levels, max_size=levels))),
        # A level without attention lies at the end in SD1 and at the beginning in SDXL; the
        # middle always attends.
        attention=tuple(draw(st.lists(st.booleans(), min_size=levels, max_size=levels))),
        layers=draw(st.integers(1, 3)),
        in_channels=draw(st.sampled_from([4, 8, 9])),
        context=draw(st.sampled_from([768, 1024])),
        vae_channels=tuple(draw(st.lists(multiple, min_size=vae_levels, max_size=vae_levels))),
        vae_layers=draw(st.integers(1, 3)),
        clip_layers=draw(st.integers(1, 4)),
    )


def shapes_of(sd: StateDict) -> dict[str, tuple[int, ...]]:
    return {name: tensor.shape for name, tensor in sd.items()}


@given(widths())
@examples(40)
def test_renaming_a_unet_and_back_gives_the_same_names_and_shapes(w: Widths) -> None:
    original = state_dict(prefixed(UNET, unet_shapes(w)))
    assert shapes_of(unet_to_ldm(unet_to_diffusers(original))) == shapes_of(original)


@given(widths())
@examples(40)
def test_renaming_an_autoencoder_and_back_gives_the_same_names_and_shapes(w: Widths) -> None:
    original = state_dict(prefixed(VAE, vae_shapes(w)))
    assert shapes_of(vae_to_ldm(vae_to_diffusers(original))) == shapes_of(original)


@given(widths())
@examples(40)
def test_renaming_a_text_encoder_and_back_gives_the_same_names_and_shapes(w: Widths) -> None:
    original = state_dict(prefixed(CLIP, clip_shapes(w))).drop({f"{CLIP}embeddings.position_ids"})
    assert shapes_of(clip_to_ldm(clip_to_transformers(original))) == shapes_of(original)


@given(widths())
@examples(40)
def test_configurations_are_read_from_shapes(w: Widths) -> None:
    sd = state_dict(checkpoint_shapes(w))
    unet, vae, clip = unet_config(sd), vae_config(sd), clip_config(sd)
    assert (unet.block_out_channels, unet.attention) == (w.channels, w.attention)
    assert (unet.in_channels, unet.out_channels, unet.layers_per_block) == (
        *(w.in_channels, 4, w.layers),
    )
    assert (unet.cross_attention_dim, unet.linear_projection) == (w.context, False)
    assert (vae.block_out_channels, vae.layers_per_block) == (w.vae_channels, w.vae_layers)
    assert (vae.latent_channels, vae.in_channels, vae.out_channels) == (4, 3, 3)
    assert (clip.hidden_size, clip.layers, clip.intermediate_size) == (
        *(w.context, w.clip_layers, w.clip_inner),
    )


@given(widths())
@examples(40)
def test_the_expected_names_are_exactly_those_of_a_complete_model(w: Widths) -> None:
    unet, vae, clip = unet_shapes(w), vae_shapes(w), clip_shapes(w)
    assert set(expected_unet(state_dict(unet))) == set(unet)
    diffusers_vae = vae_to_diffusers(state_dict(vae))
    assert set(expected_vae(diffusers_vae)) == set(diffusers_vae)
    assert {*expected_clip(state_dict(clip)), "embeddings.position_ids"} == set(clip)


@pytest.mark.parametrize("in_channels", [4, 8, 9])
def test_the_unet_of_sd15_is_that_of_diffusers(in_channels: int) -> None:
    import torch
    from diffusers import UNet2DConditionModel

    sd = state_dict(checkpoint_shapes(replace(TRUE, in_channels=in_channels)))
    config = unet_config(sd)
    with torch.device("meta"):
        model = UNet2DConditionModel(
            in_channels=config.in_channels,
            out_channels=config.out_channels,
            block_out_channels=config.block_out_channels,
            layers_per_block=config.layers_per_block,
            cross_attention_dim=config.cross_attention_dim,
            attention_head_dim=config.heads,
        )
    assert shapes_of(unet_to_diffusers(sd)) == {
        name: tuple(tensor.shape) for name, tensor in model.state_dict().items()
    }


def test_the_autoencoder_of_sd15_is_that_of_diffusers() -> None:
    import torch
    from diffusers import AutoencoderKL

    sd = state_dict(checkpoint_shapes())
    config = vae_config(sd)
    with torch.device("meta"):
        model = AutoencoderKL(
            latent_channels=config.latent_channels,
            block_out_channels=config.block_out_channels,
            layers_per_block=config.layers_per_block,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        )
    assert shapes_of(vae_to_diffusers(sd)) == {
        name: tuple(tensor.shape) for name, tensor in model.state_dict().items()
    }


@pytest.mark.parametrize("prefix", [CLIP, OLD_CLIP])
def test_the_text_encoder_of_sd15_is_that_of_transformers(prefix: str) -> None:
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    sd = state_dict(checkpoint_shapes(clip_prefix=prefix))
    config = clip_config(sd)
    with torch.device("meta"):
        model = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=config.vocabulary,
                hidden_size=config.hidden_size,
                intermediate_size=config.intermediate_size,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                max_position_embeddings=config.positions,
            )
        )
    assert config.heads == 12
    assert shapes_of(clip_to_transformers(sd)) == {
        name: tuple(tensor.shape) for name, tensor in model.state_dict().items()
    }


def test_the_components_of_sd15_have_their_published_sizes() -> None:
    sd = state_dict(checkpoint_shapes())
    counts = {
        name: (len(part), part.parameters)
        for name in ("unet", "vae", "text_encoder")
        for part in [component(sd, name).drop({"transformer.text_model.embeddings.position_ids"})]
    }
    assert counts == {
        "unet": (686, 859_520_964),
        "vae": (248, 83_653_863),
        "text_encoder": (196, 123_060_480),
    }


def test_files_that_hold_just_one_component_need_no_prefix() -> None:
    unet, vae = state_dict(unet_shapes(SMALL)), state_dict(vae_shapes(SMALL))
    assert "down_blocks.0.resnets.0.conv1.weight" in unet_to_diffusers(unet)
    assert "decoder.mid_block.attentions.0.to_q.weight" in vae_to_diffusers(vae)
    assert unet_to_diffusers(unet_to_diffusers(unet)) == unet_to_diffusers(unet)
    assert vae_to_diffusers(vae_to_diffusers(vae)) == vae_to_diffusers(vae)


def test_autoencoders_with_the_old_attention_names_of_diffusers_are_read() -> None:
    modern = vae_to_diffusers(state_dict(vae_shapes(SMALL)))
    old_names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def old(name: str) -> str:
        for new, former in old_names.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{former}.")
        return name

    assert set(vae_to_diffusers(modern.rename(old))) == set(modern)


def test_an_autoencoder_loses_what_only_training_needs() -> None:
    shapes = {**vae_shapes(SMALL), "loss.logvar": (), "model_ema.decay": ()}
    assert not any(
        n.startswith(("loss", "model_ema")) for n in vae_to_diffusers(state_dict(shapes))
    )


def test_tensors_that_no_rule_knows_keep_their_names() -> None:
    shapes = {**unet_shapes(SMALL), "something.else": (1,)}
    assert "something.else" in unet_to_diffusers(state_dict(shapes))


@pytest.mark.parametrize("read", [unet_config, vae_config, clip_config])
def test_a_missing_component_is_named_by_an_error(read: object) -> None:
    with pytest.raises(CorruptFile):
        read(state_dict({"a.weight": (2, 2)}))  # type: ignore[operator]


def test_a_table_that_is_not_bijective_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        NameMap.of([("a", "x"), ("b", "x")])
