"""Names and shapes of files of every kind, and what each of them is.

Structures are built by `helpers.sd1`; of families that only their telling names and shapes
identify, only these are here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from helpers.sd1 import (
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

from converters.identify import Base, Kind
from converters.layouts import unet_to_diffusers, vae_to_diffusers

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


Expected = tuple[Shapes, Kind, Base, str | None]

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


def _model(base: Base, variant: str | None = None) -> tuple[Kind, Base, str | None]:
    return Kind.DIFFUSION_MODEL, base, variant


def _names(*names: str) -> Shapes:
    """These names with some shape."""
    return dict.fromkeys(names, (1, 1))


TINY = replace(SMALL, channels=(32, 64, 64), attention=(True, True, True))
SDXS = replace(TINY, channels=(32, 64, 64, 64), attention=(False, True, True, True))
VIDEO: Shapes = {"input_blocks.1.1.time_stack.0.norm1.weight": (320,)}


def _without(shapes: Shapes, *parts: str) -> Shapes:
    return {name: size for name, size in shapes.items() if not any(p in name for p in parts)}


def _xl(depths: tuple[int, ...], *, layers: int = 2) -> Shapes:
    return unet_shapes(replace(SDXL, depths=depths, layers=layers))


UNETS: Mapping[str, Expected] = {
    "sd2 unclip-l": (unet_shapes(replace(SD2, adm=1536)), *_model(Base.SD2, "unclip-l")),
    "sd2 unclip-h": (unet_shapes(replace(SD2, adm=2048)), *_model(Base.SD2, "unclip-h")),
    "sd2 depth": (unet_shapes(replace(SD2, in_channels=5)), *_model(Base.SD2, "depth")),
    "sd2 inpaint": (unet_shapes(replace(SD2, in_channels=9)), *_model(Base.SD2, "inpaint")),
    "sd2 with convolutions": (unet_shapes(replace(SD2, linear=False)), *_model(Base.SD2)),
    "sdxl inpaint": (unet_shapes(replace(SDXL, in_channels=9)), *_model(Base.SDXL, "inpaint")),
    "sdxl pix2pix": (unet_shapes(replace(SDXL, in_channels=8)), *_model(Base.SDXL, "pix2pix")),
    "ssd-1b": (_without(_xl((0, 2, 4)), "middle_block.1."), *_model(Base.SDXL, "ssd-1b")),
    "vega": (_without(_xl((0, 1, 2)), "middle_block."), *_model(Base.SDXL, "vega")),
    "koala 700m": (_xl((0, 2, 5), layers=1), *_model(Base.SDXL, "koala-700m")),
    "koala 1b": (_xl((0, 2, 6), layers=1), *_model(Base.SDXL, "koala-1b")),
    "playground v2.5": (
        {**prefixed(UNET, unet_shapes(SDXL)), "edm_mean": (4,), "edm_std": (4,)},
        *_model(Base.SDXL, "playground-v2.5"),
    ),
    "sdxl refiner": (
        unet_shapes(replace(SMALL, context=1280, adm=2560, linear=True, depths=(4, 4))),
        *_model(Base.SDXL_REFINER),
    ),
    "sdxl diffusers unet": (diffusers(unet_shapes(SDXL), "unet"), *_model(Base.SDXL)),
    "ssd-1b under diffusers names": (
        _without(diffusers(_xl((0, 2, 4)), "unet"), "mid_block.attentions."),
        *_model(Base.SDXL, "ssd-1b"),
    ),
    "zero123": (
        {
            **prefixed(UNET, unet_shapes(replace(SMALL, in_channels=8))),
            "cc_projection.weight": (768, 772),
        },
        *_model(Base.SD1, "zero123"),
    ),
    "svd": (
        {**unet_shapes(replace(SD2, adm=768, in_channels=8)), **VIDEO},
        *_model(Base.SVD),
    ),
    "sv3d u": ({**unet_shapes(replace(SD2, adm=256)), **VIDEO}, *_model(Base.SV3D, "u")),
    "sv3d p": ({**unet_shapes(replace(SD2, adm=1280)), **VIDEO}, *_model(Base.SV3D, "p")),
    "x4 upscaler": (
        {**unet_shapes(replace(SD2, in_channels=7)), "label_emb.weight": (1000, 1024)},
        *_model(Base.SD_UPSCALER),
    ),
    "lotus": (_without(unet_shapes(replace(SD2, adm=4)), ".attn2."), *_model(Base.LOTUS)),
    "tiny sd1": (_without(unet_shapes(TINY), "middle_block."), *_model(Base.SD1, "tiny")),
    "tiny sd2": (
        _without(unet_shapes(replace(TINY, context=1024, linear=True)), "middle_block."),
        *_model(Base.SD2, "tiny"),
    ),
    "sdxs": (_without(unet_shapes(SDXS), "middle_block."), *_model(Base.SD1, "sdxs")),
    "sdxs of sd2": (
        _without(unet_shapes(replace(SDXS, context=1024, linear=True)), "middle_block."),
        *_model(Base.SD2, "sdxs"),
    ),
    "sd2 pix2pix": (unet_shapes(replace(SD2, in_channels=8)), *_model(Base.SD2, "pix2pix")),
    "another number of channels": (
        unet_shapes(replace(SMALL, in_channels=12)),
        *_model(Base.SD1, "12-channel"),
    ),
    "a UNet of no known family": (
        unet_shapes(replace(SMALL, context=512)),
        *_model(Base.UNKNOWN),
    ),
}
"""UNet families and their variants beside plain SD1."""

_KEY_NORM = "double_blocks.0.img_attn.norm.key_norm.scale"
_FLUX: Shapes = {
    _KEY_NORM: (128,),
    "img_in.weight": (3072, 64),
    "txt_in.weight": (3072, 4096),
    "vector_in.in_layer.weight": (3072, 768),
}
_GUIDED: Shapes = {**_FLUX, "guidance_in.in_layer.weight": (3072, 256)}
_FLUX_DIFFUSERS: Shapes = {
    "single_transformer_blocks.0.attn.to_q.weight": (3072, 3072),
    "x_embedder.weight": (3072, 64),
}
_GUIDED_DIFFUSERS: Shapes = {
    **_FLUX_DIFFUSERS,
    "time_text_embed.guidance_embedder.linear_1.weight": (3072, 256),
}
_SD3_QKV = "joint_blocks.0.context_block.attn.qkv.weight"
_SD3_MEDIUM: Shapes = {_SD3_QKV: (4608, 1536), "x_embedder.proj.weight": (1536, 16, 2, 2)}
_SD3_DIFFUSERS: Shapes = {
    "transformer_blocks.0.attn.add_q_proj.weight": (1536, 1536),
    "transformer_blocks.23.ff.net.2.weight": (1536, 6144),
    "pos_embed.proj.weight": (1536, 16, 2, 2),
}
_TIMESTEP = "adaln_single.emb.timestep_embedder.linear_1.bias"
_LUMINA_NORM = "noise_refiner.0.attention.k_norm.weight"
_HUNYUAN = "txt_in.individual_token_refiner.blocks.0.norm1.weight"


def _wan(dim: int, channels: int, **more: tuple[int, ...]) -> Shapes:
    return {
        "head.modulation": (1, 2, dim),
        "head.head.weight": (64, dim),
        "patch_embedding.weight": (dim, channels, 1, 2, 2),
        **{name.replace("__", "."): size for name, size in more.items()},
    }


TRANSFORMERS: Mapping[str, Expected] = {
    "sd3 of unknown size": ({_SD3_QKV: (64, 64)}, *_model(Base.SD3)),
    "sd3 medium": (prefixed(UNET, _SD3_MEDIUM), *_model(Base.SD3, "medium")),
    "sd3.5 medium": (
        {
            **_SD3_MEDIUM,
            "joint_blocks.0.context_block.attn.ln_q.weight": (64,),
            "joint_blocks.0.x_block.attn2.qkv.weight": (4608, 1536),
        },
        *_model(Base.SD3, "3.5-medium"),
    ),
    "sd3.5 large": (
        {**_SD3_MEDIUM, "joint_blocks.37.x_block.attn.qkv.weight": (7296, 2432)},
        *_model(Base.SD3, "3.5-large"),
    ),
    "sd3 under diffusers names": (_SD3_DIFFUSERS, *_model(Base.SD3, "medium")),
    "cascade c": (
        {"clf.1.weight": (16,), "clip_txt_mapper.weight": (2048, 1280)},
        *_model(Base.CASCADE, "stage-c"),
    ),
    "cascade c lite": (
        {"clf.1.weight": (16,), "clip_txt_mapper.weight": (1536, 1280)},
        *_model(Base.CASCADE, "stage-c-lite"),
    ),
    "cascade b": (
        {"clf.1.weight": (16,), "down_blocks.1.0.channelwise.0.weight": (2560, 640)},
        *_model(Base.CASCADE, "stage-b"),
    ),
    "cascade b lite": (
        {"clf.1.weight": (16,), "down_blocks.1.0.channelwise.0.weight": (2304, 576)},
        *_model(Base.CASCADE, "stage-b-lite"),
    ),
    "auraflow": (
        {
            f"model.{name}": (3072, 3072)
            for name in ("double_layers.0.attn.w1q.weight", "double_layers.0.attn.w1k.weight")
        },
        *_model(Base.AURAFLOW),
    ),
    "hunyuan-dit": (_names("mlp_t5.0.weight"), *_model(Base.HUNYUAN_DIT)),
    "hunyuan video": (
        {_HUNYUAN: (3072,), _KEY_NORM: (128,), "img_in.proj.weight": (3072, 16, 1, 2, 2)},
        *_model(Base.HUNYUAN_VIDEO),
    ),
    "hunyuan video 1.5": (
        {_HUNYUAN: (3072,), "vision_in.proj.0.weight": (1152,)},
        *_model(Base.HUNYUAN_VIDEO, "1.5"),
    ),
    "hunyuan image": (
        {_HUNYUAN: (3584,), "img_in.proj.weight": (3584, 64, 1, 1)},
        *_model(Base.HUNYUAN_IMAGE),
    ),
    "flux schnell": (_FLUX, *_model(Base.FLUX, "schnell")),
    "flux dev": (prefixed(UNET, _GUIDED), *_model(Base.FLUX, "dev")),
    "flux fill": ({**_GUIDED, "img_in.weight": (3072, 384)}, *_model(Base.FLUX, "fill")),
    "flux control": ({**_GUIDED, "img_in.weight": (3072, 128)}, *_model(Base.FLUX, "control")),
    "flex 2": ({**_GUIDED, "img_in.weight": (3072, 196)}, *_model(Base.FLUX, "flex-2")),
    "flux dev under diffusers names": (_GUIDED_DIFFUSERS, *_model(Base.FLUX, "dev")),
    "flux schnell under diffusers names": (_FLUX_DIFFUSERS, *_model(Base.FLUX, "schnell")),
    "flux fill under diffusers names": (
        {**_GUIDED_DIFFUSERS, "x_embedder.weight": (3072, 384)},
        *_model(Base.FLUX, "fill"),
    ),
    "a flux checkpoint": (
        {
            **prefixed(UNET, _GUIDED),
            **prefixed("vae.", vae_shapes(SMALL)),
            "text_encoders.t5xxl.transformer.encoder.block.0.layer.0.SelfAttention.k.weight": (1,),
        },
        *(Kind.CHECKPOINT, Base.FLUX, "dev"),
    ),
    "longcat": (
        {_KEY_NORM: (128,), "img_in.weight": (3072, 64), "txt_in.weight": (3072, 3584)},
        *_model(Base.LONGCAT),
    ),
    "ovis": (
        {**_FLUX, "double_blocks.0.img_mlp.gate_proj.weight": (1, 1)},
        *_model(Base.OVIS),
    ),
    "flux 2 dev": (
        {
            _KEY_NORM: (128,),
            "img_in.weight": (6144, 128),
            "double_stream_modulation_img.lin.weight": (36864, 6144),
            "single_blocks.47.linear2.weight": (6144, 24576),
        },
        *_model(Base.FLUX2, "dev"),
    ),
    "flux 2 klein": (
        {
            _KEY_NORM: (128,),
            "img_in.weight": (3072, 128),
            "double_stream_modulation_img.lin.weight": (18432, 3072),
        },
        *_model(Base.FLUX2, "klein-4b"),
    ),
    "flux 2 under diffusers names": (
        {
            "single_transformer_blocks.0.attn.to_qkv_mlp_proj.weight": (36864, 4096),
            "x_embedder.weight": (4096, 128),
        },
        *_model(Base.FLUX2, "klein-9b"),
    ),
    "chroma": (
        {
            _KEY_NORM: (128,),
            "img_in.weight": (3072, 64),
            "distilled_guidance_layer.norms.0.scale": (5120,),
        },
        *_model(Base.CHROMA),
    ),
    "chroma radiance": (
        {
            _KEY_NORM: (128,),
            "distilled_guidance_layer.norms.0.scale": (5120,),
            "nerf_blocks.0.norm.scale": (64,),
        },
        *_model(Base.CHROMA, "radiance"),
    ),
    "chroma under diffusers names": (
        {**_FLUX_DIFFUSERS, "distilled_guidance_layer.norms.0.weight": (5120,)},
        *_model(Base.CHROMA),
    ),
    "cogvideox": (
        _names("blocks.0.norm1.linear.weight", "patch_embed.proj.weight"),
        *_model(Base.COGVIDEOX),
    ),
    "mochi": (_names("t5_yproj.weight"), *_model(Base.MOCHI)),
    "pixart alpha": (
        _names("t_block.1.weight", "ar_embedder.mlp.0.weight"),
        *_model(Base.PIXART, "alpha"),
    ),
    "pixart sigma": (_names("t_block.1.weight"), *_model(Base.PIXART, "sigma")),
    "pixart under diffusers names": (
        _names(_TIMESTEP, "pos_embed.proj.bias"),
        *_model(Base.PIXART),
    ),
    "ltx": (prefixed(UNET, _names(_TIMESTEP)), *_model(Base.LTX)),
    "ltx 2": (_names(_TIMESTEP, "audio_adaln_single.linear.weight"), *_model(Base.LTX2)),
    "cosmos 1": (
        prefixed("net.", _names("blocks.block0.blocks.0.block.attn.to_q.0.weight")),
        *_model(Base.COSMOS1),
    ),
    "cosmos predict2": (
        prefixed("net.", _names("blocks.0.mlp.layer1.weight")),
        *_model(Base.COSMOS2),
    ),
    "anima": (
        prefixed(
            "net.",
            _names("blocks.0.mlp.layer1.weight", "llm_adapter.blocks.0.cross_attn.q_proj.weight"),
        ),
        *_model(Base.ANIMA),
    ),
    "lumina 2": (
        {"cap_embedder.1.weight": (2304, 2304), _LUMINA_NORM: (96,)},
        *_model(Base.LUMINA2),
    ),
    "lumina 2 in pixels": (
        {
            "cap_embedder.1.weight": (2304, 2304),
            _LUMINA_NORM: (96,),
            "dec_net.cond_embed.weight": (1, 1),
        },
        *_model(Base.LUMINA2, "pixel-space"),
    ),
    "newbie": (
        {
            "cap_embedder.1.weight": (2304, 2304),
            _LUMINA_NORM: (96,),
            "clip_text_pooled_proj.0.weight": (1,),
        },
        *_model(Base.NEWBIE),
    ),
    "lumina 2 under diffusers names": (
        _names("time_caption_embed.timestep_embedder.linear_1.bias"),
        *_model(Base.LUMINA2),
    ),
    "z-image": (
        {"cap_embedder.1.weight": (3840, 2560), _LUMINA_NORM: (128,)},
        *_model(Base.Z_IMAGE),
    ),
    "z-image in pixels": (
        {
            "cap_embedder.1.weight": (3840, 2560),
            _LUMINA_NORM: (128,),
            "dec_net.cond_embed.weight": (1, 1),
        },
        *_model(Base.Z_IMAGE, "pixel-space"),
    ),
    "z-image under diffusers names": (
        _names("layers.0.adaLN_modulation.0.weight", "cap_embedder.1.weight"),
        *_model(Base.Z_IMAGE),
    ),
    "wan text": (_wan(1536, 16), *_model(Base.WAN, "t2v-1.3b")),
    "wan text, large": (_wan(5120, 16), *_model(Base.WAN, "t2v-14b")),
    "wan picture": (_wan(5120, 36), *_model(Base.WAN, "i2v")),
    "wan picture of old": (
        _wan(5120, 36, img_emb__proj__0__bias=(1280,)),
        *_model(Base.WAN, "i2v"),
    ),
    "wan fun": (_wan(5120, 48), *_model(Base.WAN, "fun")),
    "wan vace": (_wan(5120, 16, vace_blocks__0__norm3__bias=(5120,)), *_model(Base.WAN, "vace")),
    "wan animate": (
        _wan(5120, 36, face_adapter__fuser_blocks__0__k_norm__weight=(128,)),
        *_model(Base.WAN, "animate"),
    ),
    "wan 2.2 small": (
        {**_wan(3072, 48), "head.head.weight": (192, 3072)},
        *_model(Base.WAN, "2.2-5b"),
    ),
    "hidream": (_names("caption_projection.0.linear.weight"), *_model(Base.HIDREAM, "i1")),
    "hidream o1": (
        _names("x_embedder.proj1.weight", "t_embedder1.mlp.0.weight"),
        *_model(Base.HIDREAM, "o1"),
    ),
    "omnigen 2": (
        _names(
            "time_caption_embed.timestep_embedder.linear_1.bias", "ref_image_patch_embedder.weight"
        ),
        *_model(Base.OMNIGEN2),
    ),
    "boogu": (
        _names(
            "time_caption_embed.timestep_embedder.linear_1.bias",
            "double_stream_layers.0.img_instruct_attn.processor.img_to_q.weight",
        ),
        *_model(Base.BOOGU),
    ),
    "qwen image": (
        {
            "txt_norm.weight": (3584,),
            "img_in.weight": (3072, 64),
            "transformer_blocks.0.img_mod.1.weight": (18432, 3072),
        },
        *_model(Base.QWEN_IMAGE),
    ),
    "qwen image layered": (
        {
            "txt_norm.weight": (3584,),
            "img_in.weight": (3072, 64),
            "transformer_blocks.0.img_mod.1.weight": (18432, 3072),
            "time_text_embed.addition_t_embedding.weight": (2, 3072),
        },
        *_model(Base.QWEN_IMAGE, "layered"),
    ),
    "mage flow": (
        {"txt_norm.weight": (2560,), "img_in.weight": (1, 1), "proj_out.weight": (128, 1)},
        *_model(Base.MAGE_FLOW),
    ),
    "kandinsky 5": (
        _names("visual_transformer_blocks.0.cross_attention.key_norm.weight"),
        *_model(Base.KANDINSKY5),
    ),
    "sana": (
        _names(
            "t_block.1.weight",
            "blocks.0.cross_attn.q_linear.weight",
            "blocks.0.mlp.inverted_conv.conv.weight",
        ),
        *_model(Base.SANA),
    ),
    "sana under diffusers names": (
        _names("transformer_blocks.0.ff.conv_inverted.weight"),
        *_model(Base.SANA),
    ),
    "krea 2": (_names("txtfusion.projector.weight"), *_model(Base.KREA2)),
    "ideogram 4": (_names("embed_image_indicator.weight"), *_model(Base.IDEOGRAM4)),
    "ernie image": (_names("layers.0.mlp.linear_fc2.weight"), *_model(Base.ERNIE_IMAGE)),
    "lens": (
        _names(
            "transformer_blocks.0.attn.norm_added_q.weight",
            "transformer_blocks.0.img_mlp.w1.weight",
        ),
        *_model(Base.LENS),
    ),
}
"""Transformer families by their telling names and shapes."""

_FULL_VAE = vae_shapes()
_VAE16 = _without(vae_shapes(replace(TRUE, latent=16)), "quant_conv")


def _vae(base: Base, variant: str | None = None) -> tuple[Kind, Base, str | None]:
    return Kind.VAE, base, variant


VAES: Mapping[str, Expected] = {
    "flux vae": (_VAE16, *_vae(Base.UNKNOWN, "16-channel")),
    "flux vae beside nothing": (prefixed("vae.", _VAE16), *_vae(Base.UNKNOWN, "16-channel")),
    "flux 2 vae": (
        {**vae_shapes(replace(TRUE, latent=32)), "bn.running_mean": (128,)},
        *_vae(Base.FLUX2),
    ),
    "x4 vae": (
        vae_shapes(replace(TRUE, vae_channels=(128, 256, 512))),
        *_vae(Base.SD_UPSCALER, "f4"),
    ),
    "svd vae": ({**_FULL_VAE, "decoder.mid.block_1.mix_factor": (1,)}, *_vae(Base.SVD)),
    "asymmetric vae": (
        {**_FULL_VAE, "decoder.conv_in.weight": (768, 4, 3, 3)},
        *_vae(Base.UNKNOWN, "asymmetric"),
    ),
    "hunyuan image vae": (vae_shapes(replace(TRUE, latent=64)), *_vae(Base.HUNYUAN_IMAGE)),
    "wan vae": (
        _names("decoder.middle.0.residual.0.gamma"),
        *_vae(Base.UNKNOWN, "16-channel"),
    ),
    "wan 2.2 vae": (
        _names(
            "decoder.middle.0.residual.0.gamma",
            "decoder.upsamples.0.upsamples.0.residual.2.weight",
        ),
        *_vae(Base.WAN, "2.2"),
    ),
    "hunyuan video vae": (
        {"decoder.conv_in.conv.weight": (512, 16, 3, 3, 3)},
        *_vae(Base.HUNYUAN_VIDEO),
    ),
    "hunyuan video 1.5 vae": (
        {"decoder.conv_in.conv.weight": (1024, 32, 3, 3, 3)},
        *_vae(Base.HUNYUAN_VIDEO, "1.5"),
    ),
    "cogvideox vae": (
        {
            "decoder.conv_in.conv.weight": (512, 16, 3, 3, 3),
            "decoder.mid_block.resnets.0.norm1.norm_layer.weight": (512,),
        },
        *_vae(Base.COGVIDEOX),
    ),
    "mochi vae": (_names("decoder.blocks.2.blocks.3.stack.5.weight"), *_vae(Base.MOCHI)),
    "cosmos vae": (_names("decoder.unpatcher3d.wavelets"), *_vae(Base.COSMOS1)),
    "ltx vae": (
        {
            "decoder.conv_in.conv.weight": (1024, 128, 3, 3, 3),
            "decoder.up_blocks.0.res_blocks.0.conv1.conv.weight": (1024, 1024, 3, 3, 3),
        },
        *_vae(Base.UNKNOWN),
    ),
    "dc-ae": (
        _names("decoder.stages.1.op_list.0.main.conv.conv.bias"),
        *_vae(Base.SANA, "dc-ae"),
    ),
    "cascade a": (_names("vquantizer.codebook.weight"), *_vae(Base.CASCADE, "stage-a")),
    "taehv": (_names("decoder.22.bias"), *_vae(Base.UNKNOWN, "taehv")),
    "taesd decoder": (
        {"1.weight": (64, 4, 3, 3), "3.conv.0.weight": (64, 64, 3, 3)},
        *_vae(Base.UNKNOWN, "taesd"),
    ),
    "taesd encoder": (
        {
            "0.weight": (64, 3, 3, 3),
            "1.conv.0.weight": (64, 64, 3, 3),
            "14.weight": (32, 64, 3, 3),
        },
        *_vae(Base.FLUX2, "taesd"),
    ),
    "taesd of comfy": (
        {"taesd_decoder.1.weight": (64, 16, 3, 3), "taesd_encoder.0.weight": (64, 3, 3, 3)},
        *_vae(Base.UNKNOWN, "taesd"),
    ),
    "tiny autoencoder of diffusers": (
        {"decoder.layers.0.weight": (64, 4, 3, 3), "encoder.layers.0.weight": (64, 3, 3, 3)},
        *_vae(Base.UNKNOWN, "taesd"),
    ),
}
"""Autoencoders beside the plain ones."""


def _text(variant: str | None, base: Base = Base.UNKNOWN) -> tuple[Kind, Base, str | None]:
    return Kind.TEXT_ENCODER, base, variant


def _clip(layers: int, width: int, rows: int = 77) -> Shapes:
    return {
        "text_model.embeddings.token_embedding.weight": (49408, width),
        "text_model.embeddings.position_embedding.weight": (rows, width),
        **{
            f"text_model.encoder.layers.{n}.mlp.fc1.weight": (4 * width, width)
            for n in range(layers)
        },
    }


def _language(width: int, *, prefix: str = "model.", **more: tuple[int, ...]) -> Shapes:
    return {
        f"{prefix}embed_tokens.weight": (1000, width),
        f"{prefix}layers.0.input_layernorm.weight": (width,),
        f"{prefix}layers.0.self_attn.k_proj.weight": (512, width),
        f"{prefix}layers.0.mlp.gate_proj.weight": (4 * width, width),
        **{f"{prefix}layers.0.{n.replace('__', '.')}": size for n, size in more.items()},
    }


_T5_KEYS = "encoder.block.0.layer.0.SelfAttention.k.weight"
_T5_LAST = "encoder.block.23.layer.1.DenseReluDense"

TEXT_ENCODERS: Mapping[str, Expected] = {
    "small clip": (prefixed("text_model.", clip_shapes(SMALL)), *_text("clip-l")),
    "clip-l": (_clip(12, 768), *_text("clip-l")),
    "clip-l without text_model": (
        {n.removeprefix("text_model."): t for n, t in _clip(12, 768).items()},
        *_text("clip-l"),
    ),
    "long clip": (_clip(12, 768, rows=248), *_text("long-clip-l")),
    "clip-h": (_clip(23, 1024), *_text("clip-h", Base.SD2)),
    "clip-g": (_clip(32, 1280), *_text("clip-g")),
    "open clip": (
        {
            "token_embedding.weight": (49408, 1280),
            **{f"transformer.resblocks.{n}.ln_1.weight": (1280,) for n in range(32)},
        },
        *_text("clip-g"),
    ),
    "t5-xxl": (
        {_T5_KEYS: (4096, 4096), f"{_T5_LAST}.wi_1.weight": (10240, 4096)},
        *_text("t5-xxl"),
    ),
    "t5-xl": ({_T5_KEYS: (2048, 2048), f"{_T5_LAST}.wi_1.weight": (5120, 2048)}, *_text("t5-xl")),
    "t5 of old": (
        {_T5_KEYS: (4096, 4096), f"{_T5_LAST}.wi.weight": (65536, 1024)},
        *_text("t5-xxl-old"),
    ),
    "byt5": ({_T5_KEYS: (384, 1472)}, *_text("byt5-small")),
    "t5-base": ({_T5_KEYS: (768, 768)}, *_text("t5-base")),
    "gemma": (
        _language(2304, post_feedforward_layernorm__weight=(2304,)),
        *_text("gemma-2-2b", Base.LUMINA2),
    ),
    "qwen 2.5": (
        _language(3584, self_attn__k_proj__bias=(512,)),
        *_text("qwen2.5-7b"),
    ),
    "qwen 3": (_language(2560, self_attn__q_norm__weight=(128,)), *_text("qwen3-4b")),
    "mistral": (_language(5120), *_text("mistral-24b", Base.FLUX2)),
    "llama": (
        {**_language(4096), "model.embed_tokens.weight": (128256, 4096)},
        *_text("llama-3-8b"),
    ),
    "gemma that sees": (
        {
            **_language(2560, post_feedforward_layernorm__weight=(2560,)),
            "vision_model.embeddings.patch_embedding.weight": (1152, 3, 14, 14),
        },
        *_text("gemma"),
    ),
    "a language model for something else": (
        _language(8192),
        *(Kind.OTHER, Base.UNKNOWN, None),
    ),
    "clip vision": (
        {"vision_model.embeddings.patch_embedding.weight": (1024, 3, 14, 14)},
        *(Kind.CLIP_VISION, Base.ANY, "clip-vit-l"),
    ),
    "open clip vision": (
        {"visual.transformer.resblocks.0.ln_1.weight": (1280,), "visual.class_embedding": (1280,)},
        *(Kind.CLIP_VISION, Base.ANY, "clip-vit-h"),
    ),
}
"""Encoders of texts and pictures alone."""


def _lora(modules: dict[str, tuple[int, ...]]) -> Shapes:
    return lora_shapes(modules)


def _peft(modules: dict[str, tuple[int, ...]], rank: int = 4) -> Shapes:
    shapes: Shapes = {}
    for name, (out, inner) in modules.items():
        shapes[f"{name}.lora_A.weight"] = (rank, inner)
        shapes[f"{name}.lora_B.weight"] = (out, rank)
    return shapes


def _adapter(base: Base) -> tuple[Kind, Base, str | None]:
    return Kind.LORA, base, None


_ATTENTION = "attentions.0.transformer_blocks.0"

ADAPTERS: Mapping[str, Expected] = {
    "sdxl slider without cross-attention": (
        _lora({"lora_unet_down_blocks_2_attentions_0_transformer_blocks_7_attn1_to_q": (640, 640)}),
        *_adapter(Base.SDXL),
    ),
    "sdxl lora by another trainer": (
        _peft({f"unet.down_blocks.1.{_ATTENTION}.attn2.to_k": (640, 2048)}),
        *_adapter(Base.SDXL),
    ),
    "simple tuner": (
        {
            f"lycoris_down_blocks_1_{_ATTENTION.replace('.', '_')}_attn2_to_k.lokr_w1": (4, 4),
            f"lycoris_down_blocks_1_{_ATTENTION.replace('.', '_')}_attn2_to_k.lokr_w2": (160, 512),
        },
        *_adapter(Base.SDXL),
    ),
    "refiner lora": (
        _peft({f"unet.down_blocks.1.{_ATTENTION}.attn2.to_k": (768, 1280)}),
        *_adapter(Base.SDXL_REFINER),
    ),
    "old diffusers lora": (
        {
            f"unet.down_blocks.0.{_ATTENTION}.attn2.processor.to_k_lora.down.weight": (4, 1024),
            f"unet.down_blocks.0.{_ATTENTION}.attn2.processor.to_k_lora.up.weight": (320, 4),
        },
        *_adapter(Base.SD2),
    ),
    "loha": (
        {
            f"lora_unet_mid_block_{_ATTENTION.replace('.', '_')}_attn2_to_k.{part}": size
            for part, size in (
                ("hada_w1_a", (1280, 4)),
                ("hada_w1_b", (4, 768)),
                ("hada_w2_a", (1280, 4)),
                ("hada_w2_b", (4, 768)),
            )
        },
        *_adapter(Base.SD1),
    ),
    "glora": (
        {
            f"lora_unet_mid_block_{_ATTENTION.replace('.', '_')}_attn2_to_k.{part}.weight": size
            for part, size in (
                ("a1", (768, 4)),
                ("a2", (4, 768)),
                ("b1", (1280, 4)),
                ("b2", (4, 768)),
            )
        },
        *_adapter(Base.SD1),
    ),
    "flux lora of kohya": (
        _lora({"lora_unet_double_blocks_0_img_attn_qkv": (9216, 3072)}),
        *_adapter(Base.FLUX),
    ),
    "flux lora of diffusers": (
        _peft({"transformer.single_transformer_blocks.0.attn.to_q": (3072, 3072)}),
        *_adapter(Base.FLUX),
    ),
    "flux lora of onetrainer": (
        _lora({"lora_transformer_single_transformer_blocks_0_attn_to_q": (3072, 3072)}),
        *_adapter(Base.FLUX),
    ),
    "flux lora of xlabs": (
        {
            "double_blocks.0.processor.qkv_lora1.down.weight": (16, 3072),
            "double_blocks.0.processor.qkv_lora1.up.weight": (9216, 16),
        },
        *_adapter(Base.FLUX),
    ),
    "flux 2 lora": (
        _peft({"diffusion_model.double_blocks.0.img_attn.qkv": (18432, 6144)}),
        *_adapter(Base.FLUX2),
    ),
    "flux 2 klein lora": (
        _peft({"diffusion_model.single_blocks.0.linear1": (27648, 3072)}),
        *_adapter(Base.FLUX2),
    ),
    "hunyuan video lora": (
        _lora({"lora_unet_double_blocks_19_img_attn_qkv": (9216, 3072)}),
        *_adapter(Base.HUNYUAN_VIDEO),
    ),
    "sd3 lora of kohya": (
        _lora({"lora_unet_joint_blocks_0_x_block_attn_qkv": (4608, 1536)}),
        *_adapter(Base.SD3),
    ),
    "sd3 lora of diffusers": (
        _peft({"transformer.transformer_blocks.0.attn.to_q": (1536, 1536)}),
        *_adapter(Base.SD3),
    ),
    "qwen lora": (
        _peft({"transformer.transformer_blocks.0.img_mlp.net.2": (3072, 12288)}),
        *_adapter(Base.QWEN_IMAGE),
    ),
    "wan lora": (
        _peft({"diffusion_model.blocks.0.cross_attn.k": (5120, 5120)}),
        *_adapter(Base.WAN),
    ),
    "ltx lora, whose context is as wide as that of sdxl": (
        _peft(
            {
                "transformer.transformer_blocks.0.attn2.to_k": (2048, 2048),
                "transformer.transformer_blocks.0.attn2.to_q": (2048, 2048),
            }
        ),
        *_adapter(Base.LTX),
    ),
    "z-image lora": (
        _peft({"diffusion_model.layers.0.attention.to_q": (3840, 3840)}),
        *_adapter(Base.Z_IMAGE),
    ),
    "lumina lora": (
        _lora({"lora_unet_layers_0_attention_qkv": (6912, 2304)}),
        *_adapter(Base.LUMINA2),
    ),
    "anima lora": (
        _lora({"lora_unet_blocks_0_self_attn_q_proj": (2048, 2048)}),
        *_adapter(Base.ANIMA),
    ),
    "krea lora": (
        _lora({"lora_unet_blocks_0_attn_wq": (6144, 6144)}),
        *_adapter(Base.KREA2),
    ),
    "cascade lora": (
        _lora({"lora_prior_unet_down_blocks_0_2_attention_attn_to_q": (2048, 2048)}),
        *_adapter(Base.CASCADE),
    ),
    "auraflow lora": (
        _peft({"transformer.joint_transformer_blocks.0.attn.to_q": (3072, 3072)}),
        *_adapter(Base.AURAFLOW),
    ),
    "hidream lora": (
        _peft({"diffusion_model.double_stream_blocks.0.block.attn1.to_q": (2560, 2560)}),
        *_adapter(Base.HIDREAM),
    ),
}
"""Adapters of many trainers for many families."""

EMBEDDINGS: Mapping[str, Expected] = {
    "flux embedding": (
        {"clip_l": (2, 768), "t5": (2, 4096)},
        *(Kind.EMBEDDING, Base.FLUX, None),
    ),
    "sd3 embedding": (
        {"clip_l": (2, 768), "clip_g": (2, 1280), "t5_out": (2, 4096)},
        *(Kind.EMBEDDING, Base.SD3, None),
    ),
    "hidream embedding": (
        {"clip_l": (2, 768), "llama_out": (2, 4096)},
        *(Kind.EMBEDDING, Base.HIDREAM, None),
    ),
    "t5 embedding": ({"t5": (2, 4096)}, *(Kind.EMBEDDING, Base.UNKNOWN, None)),
}
"""Embeddings for several text encoders."""


def _control(base: Base, variant: str | None = None) -> tuple[Kind, Base, str | None]:
    return Kind.CONTROLNET, base, variant


CONTROLS: Mapping[str, Expected] = {
    "flux controlnet": (
        {**_GUIDED, "controlnet_blocks.0.weight": (3072, 3072)},
        *_control(Base.FLUX),
    ),
    "flux controlnet union of diffusers": (
        {
            **_GUIDED_DIFFUSERS,
            "controlnet_blocks.0.weight": (3072, 3072),
            "controlnet_mode_embedder.weight": (10, 3072),
        },
        *_control(Base.FLUX, "union"),
    ),
    "sd3 controlnet": (
        {**_SD3_DIFFUSERS, "controlnet_blocks.0.weight": (1536, 1536)},
        *_control(Base.SD3),
    ),
    "sdxl controlnet union": (
        {
            **diffusers(unet_shapes(SDXL), "unet"),
            "controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3),
            "control_add_embedding.linear_1.weight": (1280, 2048),
            "task_embedding": (6, 320),
        },
        *_control(Base.SDXL, "union"),
    ),
    "control lora": (
        {
            "lora_controlnet": (),
            "input_blocks.4.1.transformer_blocks.0.attn2.to_k.down": (128, 2048),
            "input_blocks.4.1.transformer_blocks.0.attn2.to_k.up": (640, 128),
            "input_blocks.0.0.weight": (320, 4, 3, 3),
        },
        *_control(Base.SDXL, "control-lora"),
    ),
    "lllite": (
        _names(
            "lllite_unet_input_blocks_7_1_transformer_blocks_9_attn1_to_q.down.0.weight",
            "lllite_unet_input_blocks_7_1_transformer_blocks_9_attn1_to_q.up.0.weight",
        ),
        *_control(Base.SDXL, "lllite"),
    ),
    "t2i adapter": (
        {"body.0.block1.weight": (320, 320, 3, 3), "conv_in.weight": (320, 192, 3, 3)},
        *(Kind.T2I_ADAPTER, Base.SD1, None),
    ),
    "t2i adapter for sdxl": (
        {
            "adapter.body.0.resnets.0.block1.weight": (320, 320, 3, 3),
            "adapter.conv_in.weight": (320, 768, 3, 3),
        },
        *(Kind.T2I_ADAPTER, Base.SDXL, None),
    ),
    "light t2i adapter": (
        {"body.0.in_conv.weight": (1, 1, 1, 1)},
        *(Kind.T2I_ADAPTER, Base.UNKNOWN, "light"),
    ),
    "ip adapter plus": (
        {"image_proj.latents": (1, 16, 1280), "ip_adapter.1.to_k_ip.weight": (640, 2048)},
        *(Kind.IP_ADAPTER, Base.SDXL, "plus"),
    ),
    "face id": (
        {
            "image_proj.norm.bias": (768,),
            "ip_adapter.1.to_k_ip.weight": (320, 768),
            "ip_adapter.0.to_q_lora.down.weight": (128, 320),
            "ip_adapter.0.to_q_lora.up.weight": (320, 128),
        },
        *(Kind.IP_ADAPTER, Base.SD1, "face-id"),
    ),
    "instant id": (
        {
            "image_proj.latents": (1, 16, 1280),
            "image_proj.proj_in.weight": (1280, 512),
            "ip_adapter.1.to_k_ip.weight": (640, 2048),
        },
        *(Kind.IP_ADAPTER, Base.SDXL, "instant-id"),
    ),
    "flux ip adapter": (
        _names("double_blocks.0.processor.ip_adapter_double_stream_k_proj.weight"),
        *(Kind.IP_ADAPTER, Base.FLUX, None),
    ),
    "pulid": (
        _names("id_adapter.latents", "id_adapter_attn_layers.0.id_to_k.weight"),
        *(Kind.IP_ADAPTER, Base.UNKNOWN, "pulid"),
    ),
    "photo maker": (
        _names("id_encoder.visual_projection.weight", "lora_weights.a.lora_A.weight"),
        *(Kind.IP_ADAPTER, Base.SDXL, "photomaker"),
    ),
    "motion module v2": (
        {
            "mid_block.motion_modules.0.temporal_transformer.norm.bias": (1280,),
            "up_blocks.3.motion_modules.0.temporal_transformer.norm.bias": (320,),
        },
        *(Kind.MOTION_MODULE, Base.SD1, "v2"),
    ),
    "motion module v1": (
        {
            "up_blocks.3.motion_modules.0.temporal_transformer.norm.bias": (320,),
            "up_blocks.3.motion_modules.0.temporal_transformer.pos_encoder.pe": (1, 24, 320),
        },
        *(Kind.MOTION_MODULE, Base.SD1, "v1"),
    ),
    "motion lora": (
        {
            f"up_blocks.3.motion_modules.0.temporal_transformer.attn.to_q_lora.{side}.weight": size
            for side, size in (("down", (4, 320)), ("up", (320, 4)))
        },
        *(Kind.MOTION_MODULE, Base.SD1, "motion-lora"),
    ),
}
"""Networks that steer a denoiser."""


def _upscaler(word: str) -> tuple[Kind, Base, str | None]:
    return Kind.UPSCALER, Base.ANY, word


_SWIN = ("conv_first.weight", "layers.0.residual_group.blocks.0.norm1.weight")

UPSCALERS: Mapping[str, Expected] = {
    "esrgan": (_names("conv_first.weight", "body.0.rdb1.conv1.weight"), *_upscaler("esrgan")),
    "old esrgan": (
        _names("model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"),
        *_upscaler("esrgan"),
    ),
    "compact": (
        {"body.0.weight": (64, 3, 3, 3), "body.1.weight": (64,)},
        *_upscaler("compact"),
    ),
    "swinir": (_names(*_SWIN), *_upscaler("swinir")),
    "hat": (
        _names(*_SWIN, "layers.0.residual_group.blocks.0.conv_block.cab.0.weight"),
        *_upscaler("hat"),
    ),
    "swin2sr": (
        _names(*_SWIN, "layers.0.residual_group.blocks.0.attn.cpb_mlp.0.weight"),
        *_upscaler("swin2sr"),
    ),
    "dat": (_names("before_RG.1.weight", "conv_first.weight"), *_upscaler("dat")),
    "span": (_names("block_1.c1_r.sk.weight"), *_upscaler("span")),
    "omnisr": (
        _names("input.weight", "residual_layer.0.residual_layer.0.layer.0.fn.0.weight"),
        *_upscaler("omnisr"),
    ),
    "plksr": (_names("feats.1.lk.conv.weight"), *_upscaler("plksr")),
    "gfpgan": (_names("stylegan_decoder.style_conv1.scale"), *_upscaler("gfpgan")),
    "codeformer": (
        _names("quantize.embedding.weight", "ft_layers.0.linear1.weight"),
        *_upscaler("codeformer"),
    ),
    "srgan": (
        {"block1.0.weight": (64, 3, 9, 9), "block2.conv1.weight": (64, 64, 3, 3)},
        *_upscaler("srgan"),
    ),
    "vdsr": (
        _names("residual_layer.0.conv.weight", "input.weight", "output.weight"),
        *_upscaler("vdsr"),
    ),
}
"""One for each architecture."""

_OTHER = (Kind.OTHER, Base.UNKNOWN, None)

OTHERS: Mapping[str, Expected] = {
    "aesthetic gradient": ({"tensor": (1, 768)}, *_OTHER),
    "prompt encoding": ({"tensor": (1, 77, 768)}, *_OTHER),
    "linear probe": ({"weight": (1, 768), "bias": (1,)}, *_OTHER),
    "aesthetic predictor of several layers": (
        {"layers.0.weight": (1024, 768), "layers.0.bias": (1024,), "layers.7.weight": (1, 1024)},
        *_OTHER,
    ),
    "vae approximation": (
        _names("hidden_layers.0.weight", "out_proj.weight") | {"in_proj.weight": (12, 4)},
        *_OTHER,
    ),
    "safety checker": (
        _names("special_care_embeds", "vision_model.vision_model.embeddings.class_embedding"),
        *_OTHER,
    ),
    "gligen": (
        _names("position_net.null_positive_feature", "input_blocks.1.1.fuser.alpha_attn"),
        *_OTHER,
    ),
    "style model": (_names("style_embedding", "proj"), *_OTHER),
    "both halves of clip": (
        {
            "logit_scale": (),
            "vision_model.embeddings.patch_embedding.weight": (1024, 3, 14, 14),
            **_clip(12, 768),
        },
        *_OTHER,
    ),
    "audio": (
        prefixed("model.model.", _names("transformer.rotary_pos_emb.inv_freq")),
        *_OTHER,
    ),
    "hunyuan 3d": (_names("latent_in.weight", "cond_in.weight"), *_OTHER),
    "segment anything": (_names("image_encoder.neck.0.weight"), *_OTHER),
    "optimizer": (_names("state.0.exp_avg", "state.0.exp_avg_sq"), *_OTHER),
    "random numbers": ({"cpu": (5056,), "numpy.1": (624,)}, *_OTHER),
    "merge weights": (dict.fromkeys(("BASE", "IN00", "M00", "OUT00"), ()), *_OTHER),
}
"""What is no model that we manage."""

FIXTURES: Mapping[str, Expected] = {
    **SD1_AND_NEIGHBOURS, **UNETS, **TRANSFORMERS, **VAES, **TEXT_ENCODERS, **ADAPTERS,
    **EMBEDDINGS, **CONTROLS, **UPSCALERS, **OTHERS,
}  # fmt: skip
"""Everything."""
