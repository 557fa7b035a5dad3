"""Files of Stable Diffusion 1 and its neighbours, and UNets of all kinds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from helpers.identities.common import (
    HYPERNETWORK,
    NOVELAI,
    SD2,
    SDXL,
    SDXL_LORA,
    Expected,
    diffusers,
    model,
    without,
)
from helpers.sd1 import (
    OLD_CLIP,
    SMALL,
    UNET,
    VAE,
    Shapes,
    checkpoint_shapes,
    kohya_modules,
    kohya_text_modules,
    lora_shapes,
    prefixed,
    unet_shapes,
    vae_shapes,
)

from converters.identify import Base, Kind

SD1_AND_NEIGHBOURS: Mapping[str, Expected] = {
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
    "vae": (vae_shapes(), Kind.VAE, Base.UNKNOWN, None),
    "small vae": (vae_shapes(SMALL), Kind.VAE, Base.UNKNOWN, None),
    "vae with prefix": (prefixed(VAE, vae_shapes(SMALL)), Kind.VAE, Base.UNKNOWN, None),
    "vae with loss": (
        {**vae_shapes(SMALL), "loss.logvar": (), "model_ema.decay": ()},
        *(Kind.VAE, Base.UNKNOWN, None),
    ),
    "diffusers vae": (diffusers(vae_shapes(SMALL), "vae"), Kind.VAE, Base.UNKNOWN, None),
    "16-channel vae": (
        {n: t for n, t in vae_shapes(replace(SMALL, latent=16)).items() if "quant" not in n},
        *(Kind.VAE, Base.UNKNOWN, "16-channel"),
    ),
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
    "ip adapter": (
        {"image_proj.norm.bias": (768,), "ip_adapter.1.to_k_ip.weight": (320, 768)},
        *(Kind.IP_ADAPTER, Base.SD1, None),
    ),
    "motion module": (
        {"down_blocks.0.motion_modules.0.temporal_transformer.norm.bias": (320,)},
        *(Kind.MOTION_MODULE, Base.UNKNOWN, None),
    ),
    "lone layer": ({"proj.weight": (768, 768)}, Kind.UNKNOWN, Base.UNKNOWN, None),
    "big matrix": ({"<t>": (49408, 768)}, Kind.UNKNOWN, Base.UNKNOWN, None),
    "nothing": ({}, Kind.UNKNOWN, Base.UNKNOWN, None),
    "speech model": ({"encoder.0.weight": (16, 1, 3)}, Kind.UNKNOWN, Base.UNKNOWN, None),
}


TINY = replace(SMALL, channels=(32, 64, 64), attention=(True, True, True))
SDXS = replace(TINY, channels=(32, 64, 64, 64), attention=(False, True, True, True))
VIDEO: Shapes = {"input_blocks.1.1.time_stack.0.norm1.weight": (320,)}


def _xl(depths: tuple[int, ...], *, layers: int = 2) -> Shapes:
    return unet_shapes(replace(SDXL, depths=depths, layers=layers))


UNETS: Mapping[str, Expected] = {
    "sd2 unclip-l": (unet_shapes(replace(SD2, adm=1536)), *model(Base.SD2, "unclip-l")),
    "sd2 unclip-h": (unet_shapes(replace(SD2, adm=2048)), *model(Base.SD2, "unclip-h")),
    "sd2 depth": (unet_shapes(replace(SD2, in_channels=5)), *model(Base.SD2, "depth")),
    "sd2 inpaint": (unet_shapes(replace(SD2, in_channels=9)), *model(Base.SD2, "inpaint")),
    "sd2 with convolutions": (unet_shapes(replace(SD2, linear=False)), *model(Base.SD2)),
    "sdxl with convolutions": (unet_shapes(replace(SDXL, linear=False)), *model(Base.SDXL)),
    "kolors": (unet_shapes(replace(SDXL, adm=5632)), *model(Base.KOLORS)),
    "modelscope": (
        {
            **unet_shapes(SD2),
            "input_blocks.1.0.temopral_conv.conv1.2.weight": (320, 320, 3, 1, 1),
        },
        *model(Base.UNKNOWN),
    ),
    "zeroscope": (
        {
            **diffusers(unet_shapes(SD2), "unet"),
            "down_blocks.0.temp_convs.0.conv1.2.weight": (320, 320, 3, 1, 1),
        },
        *model(Base.UNKNOWN),
    ),
    "sdxl inpaint": (unet_shapes(replace(SDXL, in_channels=9)), *model(Base.SDXL, "inpaint")),
    "sdxl pix2pix": (unet_shapes(replace(SDXL, in_channels=8)), *model(Base.SDXL, "pix2pix")),
    "ssd-1b": (without(_xl((0, 2, 4)), "middle_block.1."), *model(Base.SDXL, "ssd-1b")),
    "vega": (without(_xl((0, 1, 2)), "middle_block."), *model(Base.SDXL, "vega")),
    "koala 700m": (_xl((0, 2, 5), layers=1), *model(Base.SDXL, "koala-700m")),
    "koala 1b": (_xl((0, 2, 6), layers=1), *model(Base.SDXL, "koala-1b")),
    "playground v2.5": (
        {**prefixed(UNET, unet_shapes(SDXL)), "edm_mean": (4,), "edm_std": (4,)},
        *model(Base.SDXL, "playground-v2.5"),
    ),
    "sdxl refiner": (
        unet_shapes(replace(SMALL, context=1280, adm=2560, linear=True, depths=(4, 4))),
        *model(Base.SDXL_REFINER),
    ),
    "sdxl diffusers unet": (diffusers(unet_shapes(SDXL), "unet"), *model(Base.SDXL)),
    "ssd-1b under diffusers names": (
        without(diffusers(_xl((0, 2, 4)), "unet"), "mid_block.attentions."),
        *model(Base.SDXL, "ssd-1b"),
    ),
    "zero123": (
        {
            **prefixed(UNET, unet_shapes(replace(SMALL, in_channels=8))),
            "cc_projection.weight": (768, 772),
        },
        *model(Base.SD1, "zero123"),
    ),
    "svd": (
        {**unet_shapes(replace(SD2, adm=768, in_channels=8)), **VIDEO},
        *model(Base.SVD),
    ),
    "sv3d u": ({**unet_shapes(replace(SD2, adm=256)), **VIDEO}, *model(Base.SV3D, "u")),
    "sv3d p": ({**unet_shapes(replace(SD2, adm=1280)), **VIDEO}, *model(Base.SV3D, "p")),
    "x4 upscaler": (
        {**unet_shapes(replace(SD2, in_channels=7)), "label_emb.weight": (1000, 1024)},
        *model(Base.SD_UPSCALER),
    ),
    "lotus": (unet_shapes(replace(SD2, adm=4)), *model(Base.LOTUS)),
    "lotus without text": (
        without(unet_shapes(replace(SD2, adm=4)), ".attn2."),
        *model(Base.LOTUS),
    ),
    "sd2 unclip under diffusers names": (
        {
            **diffusers(unet_shapes(SD2), "unet"),
            "class_embedding.linear_1.weight": (1280, 1536),
        },
        *model(Base.SD2, "unclip-l"),
    ),
    "svd under diffusers names": (
        {
            "conv_in.weight": (320, 8, 3, 3),
            "add_embedding.linear_1.weight": (1280, 768),
            "down_blocks.0.resnets.0.spatial_res_block.conv1.weight": (320, 320, 3, 3),
            "down_blocks.0.attentions.0.proj_in.weight": (320, 320),
            "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight": (320, 1024),
            "down_blocks.0.attentions.0.temporal_transformer_blocks.0.norm1.weight": (320,),
        },
        *model(Base.SVD),
    ),
    "tiny sd1": (without(unet_shapes(TINY), "middle_block."), *model(Base.SD1, "tiny")),
    "tiny sd2": (
        without(unet_shapes(replace(TINY, context=1024, linear=True)), "middle_block."),
        *model(Base.SD2, "tiny"),
    ),
    "sdxs": (without(unet_shapes(SDXS), "middle_block."), *model(Base.SD1, "sdxs")),
    "sdxs of sd2": (
        without(unet_shapes(replace(SDXS, context=1024, linear=True)), "middle_block."),
        *model(Base.SD2, "sdxs"),
    ),
    "sd2 pix2pix": (unet_shapes(replace(SD2, in_channels=8)), *model(Base.SD2, "pix2pix")),
    "another number of channels": (
        unet_shapes(replace(SMALL, in_channels=12)),
        *model(Base.SD1, "12-channel"),
    ),
    "a UNet of no known family": (
        unet_shapes(replace(SMALL, context=512)),
        *model(Base.UNKNOWN),
    ),
}
"""UNet families and their variants beside plain SD1."""
