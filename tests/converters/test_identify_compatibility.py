"""Whether an adapter fits a checkpoint, told by names and shapes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.identities import FIXTURES
from helpers.identities.common import SD2, SDXL
from helpers.sd1 import (
    SMALL,
    UNET,
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

from converters.identify.compatibility import Compatibility, compatibility
from converters.layouts import unet_to_diffusers

LORA = lora_shapes(kohya_modules(SMALL) | kohya_text_modules(SMALL))
BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"
HEAD = "model.diffusion_model."
SD1 = state_dict(checkpoint_shapes(SMALL))


def fit(adapter: Shapes, checkpoint: Shapes) -> Compatibility:
    return compatibility(state_dict(adapter), state_dict(checkpoint))


def test_an_adapter_of_the_same_family_fits_and_names_what_it_would_change() -> None:
    found = fit(LORA, checkpoint_shapes(SMALL))
    assert found.fits is True
    assert (found.modules, len(found.changed), found.unused) == (7, 7, ())
    assert f"{HEAD}input_blocks.1.1.proj_in.weight" in found.changed
    assert any(name.startswith("cond_stage_model.") for name in found.changed)
    assert set(found.changed) <= set(SD1)


def test_it_fits_the_same_unet_under_diffusers_names() -> None:
    unet = unet_to_diffusers(state_dict(unet_shapes(SMALL)))
    found = compatibility(state_dict(lora_shapes(kohya_modules(SMALL))), unet)
    assert (found.fits, found.modules) == (True, 5)
    assert f"{BLOCK}.attn2.to_k.weight" in found.changed


SPELLINGS = {
    "diffusers": (f"unet.{BLOCK}.attn2.to_k.lora_", "A.weight", "B.weight"),
    "old diffusers": (f"unet.{BLOCK}.attn2.processor.to_k_lora.", "down.weight", "up.weight"),
    "peft": (f"base_model.model.{BLOCK}.attn2.to_k.lora_", "A.default.weight", "B.default.weight"),
    "comfy": (f"diffusion_model.{BLOCK}.attn2.to_k.lora_", "down.weight", "up.weight"),
    "single file": (
        "lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_k.lora_",
        "down.weight",
        "up.weight",
    ),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_finds_the_same_weight(name: str) -> None:
    module, down, up = SPELLINGS[name]
    found = fit({module + down: (4, 768), module + up: (32, 4)}, checkpoint_shapes(SMALL))
    assert found.changed == (f"{HEAD}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",)
    assert found.unused == ()


def test_an_adapter_of_another_family_does_not_fit_and_says_so() -> None:
    found = fit(lora_shapes(kohya_modules(SD2)), checkpoint_shapes(SMALL))
    assert found.fits is False
    assert found.reason == (
        "made for SD2 (context width 1024), the checkpoint is SD1 (context width 768)"
    )


def test_modules_without_a_weight_are_left_over() -> None:
    found = fit(LORA, prefixed(UNET, unet_shapes(SMALL)))
    assert found.fits is True
    assert found.reason == "2 of its 7 modules find no weight"
    assert len(found.unused) == 6
    assert all(key.startswith("lora_te_") for key in found.unused)


def test_keys_that_are_of_no_module_are_left_over() -> None:
    found = fit({**LORA, "something.else": (1,)}, checkpoint_shapes(SMALL))
    assert found.unused == ("something.else",)


def test_an_adapter_of_another_width_does_not_fit() -> None:
    wider = replace(SMALL, channels=(64, 128))
    found = fit(lora_shapes(kohya_modules(wider)), checkpoint_shapes(SMALL))
    assert found.fits is False
    assert "changes a weight of shape" in found.reason


def test_an_inpainting_checkpoint_takes_what_a_plain_one_takes() -> None:
    inpaint = checkpoint_shapes(replace(SMALL, in_channels=9))
    first = lora_shapes({"lora_unet_conv_in": (32, 4, 3, 3)})
    assert fit({**LORA, **first}, inpaint).fits is True


def test_fused_projections_of_openclip_are_found_as_three_modules() -> None:
    encoder: Shapes = {
        "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight": (3840, 1280),
        "conditioner.embedders.1.model.transformer.resblocks.0.mlp.c_fc.weight": (5120, 1280),
    }
    sdxl = {**prefixed(UNET, unet_shapes(SDXL)), **prefixed("vae.", vae_shapes(SMALL)), **encoder}
    path = "lora_te2_text_model_encoder_layers_0"
    modules = {
        f"{path}_self_attn_q_proj": (1280, 1280),
        f"{path}_self_attn_v_proj": (1280, 1280),
        f"{path}_mlp_fc1": (5120, 1280),
    }
    found = fit(lora_shapes(modules), sdxl)
    assert (found.fits, found.modules, len(found.changed)) == (True, 3, 2)


def test_the_weights_of_ia3_belong_to_their_modules() -> None:
    module = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    found = fit({f"{module}.weight": (32,), f"{module}.on_input": ()}, checkpoint_shapes(SMALL))
    assert (found.fits, found.unused) == (True, ())


def test_what_has_a_family_but_no_modules_fits_by_family() -> None:
    sd1 = checkpoint_shapes(SMALL)
    assert fit({"<cat>": (768,)}, sd1).fits is True
    assert fit({"<cat>": (1024,)}, sd1).fits is False
    assert fit(vae_shapes(SMALL), sd1).fits is None


def test_modules_without_names_cannot_be_told() -> None:
    found = fit(FIXTURES["indexed lora"][0], checkpoint_shapes(SMALL))
    assert found.fits is None
    assert "no names" in found.reason


def test_the_same_family_under_names_that_are_not_mapped_cannot_be_told() -> None:
    found = fit(FIXTURES["flux lora of diffusers"][0], FIXTURES["flux dev"][0])
    assert found.fits is None
    assert "named in different ways" in found.reason


def test_only_adapters_fit_and_only_checkpoints_are_fitted() -> None:
    sd1 = checkpoint_shapes(SMALL)
    assert fit(sd1, sd1).fits is False
    assert fit(LORA, LORA).reason == "it is of kind lora, not a checkpoint"


def test_an_adapter_of_no_known_module_does_not_fit() -> None:
    stray: Shapes = {"base_model.model.transformer.h.0.attn.c_attn.lora_A.weight": (4, 768)}
    found = fit(stray, checkpoint_shapes(SMALL))
    assert found.fits is False
    assert found.reason == "none of its modules is in the checkpoint"
    assert found.unused == tuple(stray)
