"""Denoisers that are transformers."""

from __future__ import annotations

from collections.abc import Mapping

from helpers.identities.common import Expected, model, names
from helpers.sd1 import SMALL, UNET, Shapes, prefixed, vae_shapes

from converters.identify import Base, Kind

_KEY_NORM = "double_blocks.0.img_attn.norm.key_norm.scale"
_FLUX: Shapes = {
    _KEY_NORM: (128,),
    "img_in.weight": (3072, 64),
    "txt_in.weight": (3072, 4096),
    "vector_in.in_layer.weight": (3072, 768),
}
GUIDED: Shapes = {**_FLUX, "guidance_in.in_layer.weight": (3072, 256)}
_FLUX_DIFFUSERS: Shapes = {
    "single_transformer_blocks.0.attn.to_q.weight": (3072, 3072),
    "x_embedder.weight": (3072, 64),
}
GUIDED_DIFFUSERS: Shapes = {
    **_FLUX_DIFFUSERS,
    "time_text_embed.guidance_embedder.linear_1.weight": (3072, 256),
}
_SD3_QKV = "joint_blocks.0.context_block.attn.qkv.weight"
_SD3_MEDIUM: Shapes = {_SD3_QKV: (4608, 1536), "x_embedder.proj.weight": (1536, 16, 2, 2)}
SD3_DIFFUSERS: Shapes = {
    "transformer_blocks.0.attn.add_q_proj.weight": (1536, 1536),
    "transformer_blocks.23.ff.net.2.weight": (1536, 6144),
    "pos_embed.proj.weight": (1536, 16, 2, 2),
}
_TIMESTEP = "adaln_single.emb.timestep_embedder.linear_1.bias"
_HUNYUAN_DIFFUSERS = "context_embedder.token_refiner.refiner_blocks.0.norm1.weight"
_LTX_DIFFUSERS = "time_embed.emb.timestep_embedder.linear_1.weight"
_COSMOS_DIFFUSERS = (
    "time_embed.t_embedder.linear_1.weight",
    "transformer_blocks.0.norm1.linear_1.weight",
)
_LUMINA_NORM = "noise_refiner.0.attention.k_norm.weight"
_HUNYUAN = "txt_in.individual_token_refiner.blocks.0.norm1.weight"


def _wan(dim: int, channels: int, **more: tuple[int, ...]) -> Shapes:
    return {
        "head.modulation": (1, 2, dim),
        "head.head.weight": (64, dim),
        "patch_embedding.weight": (dim, channels, 1, 2, 2),
        **{name.replace("__", "."): size for name, size in more.items()},
    }


def _wan_diffusers(dim: int, channels: int, *more: str, out: int = 64) -> Shapes:
    return {
        "scale_shift_table": (1, 2, dim),
        "patch_embedding.weight": (dim, channels, 1, 2, 2),
        "proj_out.weight": (out, dim),
        **names("condition_embedder.time_proj.weight", "blocks.0.attn1.to_q.weight", *more),
    }


TRANSFORMERS: Mapping[str, Expected] = {
    "wan t2v 1.3b under diffusers names": (
        _wan_diffusers(1536, 16),
        *model(Base.WAN, "t2v-1.3b"),
    ),
    "wan t2v 14b under diffusers names": (_wan_diffusers(5120, 16), *model(Base.WAN, "t2v-14b")),
    "wan i2v under diffusers names": (_wan_diffusers(5120, 36), *model(Base.WAN, "i2v")),
    "wan 2.2 5b under diffusers names": (
        _wan_diffusers(3072, 48, out=192),
        *model(Base.WAN, "2.2-5b"),
    ),
    "wan vace under diffusers names": (
        _wan_diffusers(5120, 16, "vace_blocks.0.proj_in.weight"),
        *model(Base.WAN, "vace"),
    ),
    "wan animate under diffusers names": (
        _wan_diffusers(5120, 36, "face_encoder.padding_tokens"),
        *model(Base.WAN, "animate"),
    ),
    "sd3 of unknown size": ({_SD3_QKV: (64, 64)}, *model(Base.SD3)),
    "sd3 medium": (prefixed(UNET, _SD3_MEDIUM), *model(Base.SD3, "medium")),
    "sd3.5 medium": (
        {
            **_SD3_MEDIUM,
            "joint_blocks.0.context_block.attn.ln_q.weight": (64,),
            "joint_blocks.0.x_block.attn2.qkv.weight": (4608, 1536),
        },
        *model(Base.SD3, "3.5-medium"),
    ),
    "sd3.5 large": (
        {**_SD3_MEDIUM, "joint_blocks.37.x_block.attn.qkv.weight": (7296, 2432)},
        *model(Base.SD3, "3.5-large"),
    ),
    "sd3 under diffusers names": (SD3_DIFFUSERS, *model(Base.SD3, "medium")),
    "cascade c": (
        {"clf.1.weight": (16,), "clip_txt_mapper.weight": (2048, 1280)},
        *model(Base.CASCADE, "stage-c"),
    ),
    "cascade c lite": (
        {"clf.1.weight": (16,), "clip_txt_mapper.weight": (1536, 1280)},
        *model(Base.CASCADE, "stage-c-lite"),
    ),
    "cascade b": (
        {"clf.1.weight": (16,), "down_blocks.1.0.channelwise.0.weight": (2560, 640)},
        *model(Base.CASCADE, "stage-b"),
    ),
    "cascade b lite": (
        {"clf.1.weight": (16,), "down_blocks.1.0.channelwise.0.weight": (2304, 576)},
        *model(Base.CASCADE, "stage-b-lite"),
    ),
    "auraflow": (
        {
            f"model.{name}": (3072, 3072)
            for name in ("double_layers.0.attn.w1q.weight", "double_layers.0.attn.w1k.weight")
        },
        *model(Base.AURAFLOW),
    ),
    "hunyuan-dit": (names("mlp_t5.0.weight"), *model(Base.HUNYUAN_DIT)),
    "hunyuan video": (
        {_HUNYUAN: (3072,), _KEY_NORM: (128,), "img_in.proj.weight": (3072, 16, 1, 2, 2)},
        *model(Base.HUNYUAN_VIDEO),
    ),
    "hunyuan video 1.5": (
        {_HUNYUAN: (3072,), "vision_in.proj.0.weight": (1152,)},
        *model(Base.HUNYUAN_VIDEO, "1.5"),
    ),
    "hunyuan image": (
        {_HUNYUAN: (3584,), "img_in.proj.weight": (3584, 64, 1, 1)},
        *model(Base.HUNYUAN_IMAGE),
    ),
    "flux schnell": (_FLUX, *model(Base.FLUX, "schnell")),
    "flux dev": (prefixed(UNET, GUIDED), *model(Base.FLUX, "dev")),
    "flux fill": ({**GUIDED, "img_in.weight": (3072, 384)}, *model(Base.FLUX, "fill")),
    "flux control": ({**GUIDED, "img_in.weight": (3072, 128)}, *model(Base.FLUX, "control")),
    "flex 2": ({**GUIDED, "img_in.weight": (3072, 196)}, *model(Base.FLUX, "flex-2")),
    "flux dev under diffusers names": (GUIDED_DIFFUSERS, *model(Base.FLUX, "dev")),
    "flux schnell under diffusers names": (_FLUX_DIFFUSERS, *model(Base.FLUX, "schnell")),
    "flux fill under diffusers names": (
        {**GUIDED_DIFFUSERS, "x_embedder.weight": (3072, 384)},
        *model(Base.FLUX, "fill"),
    ),
    "a flux checkpoint": (
        {
            **prefixed(UNET, GUIDED),
            **prefixed("vae.", vae_shapes(SMALL)),
            "text_encoders.t5xxl.transformer.encoder.block.0.layer.0.SelfAttention.k.weight": (1,),
        },
        *(Kind.CHECKPOINT, Base.FLUX, "dev"),
    ),
    "longcat": (
        {_KEY_NORM: (128,), "img_in.weight": (3072, 64), "txt_in.weight": (3072, 3584)},
        *model(Base.LONGCAT),
    ),
    "ovis": (
        {**_FLUX, "double_blocks.0.img_mlp.gate_proj.weight": (1, 1)},
        *model(Base.OVIS),
    ),
    "flux 2 dev": (
        {
            _KEY_NORM: (128,),
            "img_in.weight": (6144, 128),
            "double_stream_modulation_img.lin.weight": (36864, 6144),
            "single_blocks.47.linear2.weight": (6144, 24576),
        },
        *model(Base.FLUX2, "dev"),
    ),
    "flux 2 klein": (
        {
            _KEY_NORM: (128,),
            "img_in.weight": (3072, 128),
            "double_stream_modulation_img.lin.weight": (18432, 3072),
        },
        *model(Base.FLUX2, "klein-4b"),
    ),
    "flux 2 under diffusers names": (
        {
            "single_transformer_blocks.0.attn.to_qkv_mlp_proj.weight": (36864, 4096),
            "x_embedder.weight": (4096, 128),
        },
        *model(Base.FLUX2, "klein-9b"),
    ),
    "chroma": (
        {
            _KEY_NORM: (128,),
            "img_in.weight": (3072, 64),
            "distilled_guidance_layer.norms.0.scale": (5120,),
        },
        *model(Base.CHROMA),
    ),
    "chroma radiance": (
        {
            _KEY_NORM: (128,),
            "distilled_guidance_layer.norms.0.scale": (5120,),
            "nerf_blocks.0.norm.scale": (64,),
        },
        *model(Base.CHROMA, "radiance"),
    ),
    "chroma under diffusers names": (
        {**_FLUX_DIFFUSERS, "distilled_guidance_layer.norms.0.weight": (5120,)},
        *model(Base.CHROMA),
    ),
    "cogvideox": (
        names("blocks.0.norm1.linear.weight", "patch_embed.proj.weight"),
        *model(Base.COGVIDEOX),
    ),
    "cogvideox under diffusers names": (
        names("patch_embed.text_proj.weight", "transformer_blocks.0.norm1.norm.weight"),
        *model(Base.COGVIDEOX),
    ),
    "mochi": (names("t5_yproj.weight"), *model(Base.MOCHI)),
    "mochi under diffusers names": (
        names("time_embed.pooler.to_kv.weight", "time_embed.timestep_embedder.linear_1.weight"),
        *model(Base.MOCHI),
    ),
    "auraflow under diffusers names": (
        names("joint_transformer_blocks.0.attn.add_q_proj.weight", "register_tokens"),
        *model(Base.AURAFLOW),
    ),
    "hunyuan-dit under diffusers names": (
        names("time_extra_emb.timestep_embedder.linear_1.weight"),
        *model(Base.HUNYUAN_DIT),
    ),
    "hunyuan video under diffusers names": (
        {_HUNYUAN_DIFFUSERS: (3072,), "x_embedder.proj.weight": (3072, 16, 1, 2, 2)},
        *model(Base.HUNYUAN_VIDEO),
    ),
    "hunyuan video 1.5 under diffusers names": (
        {
            _HUNYUAN_DIFFUSERS: (2048,),
            "x_embedder.proj.weight": (2048, 65, 1, 1, 1),
            "context_embedder_2.norm.weight": (1472,),
        },
        *model(Base.HUNYUAN_VIDEO, "1.5"),
    ),
    "hunyuan image under diffusers names": (
        {_HUNYUAN_DIFFUSERS: (3584,), "x_embedder.proj.weight": (3584, 64, 1, 1)},
        *model(Base.HUNYUAN_IMAGE),
    ),
    "longcat under diffusers names": (
        {
            **_FLUX_DIFFUSERS,
            "time_embed.timestep_embedder.linear_1.weight": (3072, 256),
            "context_embedder.weight": (3072, 3584),
        },
        *model(Base.LONGCAT),
    ),
    "ovis under diffusers names": (
        {**_FLUX_DIFFUSERS, "context_embedder_norm.weight": (2048,)},
        *model(Base.OVIS),
    ),
    "bria, which is built like flux": (
        {
            **_FLUX_DIFFUSERS,
            "time_embed.timestep_embedder.linear_1.weight": (3072, 256),
            "context_embedder.weight": (3072, 4096),
        },
        *(Kind.UNKNOWN, Base.UNKNOWN, None),
    ),
    "allegro, which is built like pixart": (
        {_TIMESTEP: (2304,), "pos_embed.proj.bias": (2304,)},
        *(Kind.UNKNOWN, Base.UNKNOWN, None),
    ),
    "pixart alpha": (
        names("t_block.1.weight", "ar_embedder.mlp.0.weight"),
        *model(Base.PIXART, "alpha"),
    ),
    "pixart sigma": (names("t_block.1.weight"), *model(Base.PIXART, "sigma")),
    "pixart under diffusers names": (
        names(_TIMESTEP, "pos_embed.proj.bias"),
        *model(Base.PIXART),
    ),
    "ltx": (prefixed(UNET, names(_TIMESTEP)), *model(Base.LTX)),
    "ltx under diffusers names": (
        names(_LTX_DIFFUSERS, "proj_in.weight"),
        *model(Base.LTX),
    ),
    "ltx 2 under diffusers names": (
        names(_LTX_DIFFUSERS, "proj_in.weight", "audio_time_embed.linear.weight"),
        *model(Base.LTX2),
    ),
    "ltx 2": (names(_TIMESTEP, "audio_adaln_single.linear.weight"), *model(Base.LTX2)),
    "cosmos 1": (
        prefixed("net.", names("blocks.block0.blocks.0.block.attn.to_q.0.weight")),
        *model(Base.COSMOS1),
    ),
    "cosmos 1 under diffusers names": (
        names(*_COSMOS_DIFFUSERS, "learnable_pos_embed.pos_emb_t"),
        *model(Base.COSMOS1),
    ),
    "cosmos predict2 under diffusers names": (
        names(*_COSMOS_DIFFUSERS),
        *model(Base.COSMOS2),
    ),
    "cosmos predict2": (
        prefixed("net.", names("blocks.0.mlp.layer1.weight")),
        *model(Base.COSMOS2),
    ),
    "anima": (
        prefixed(
            "net.",
            names("blocks.0.mlp.layer1.weight", "llm_adapter.blocks.0.cross_attn.q_proj.weight"),
        ),
        *model(Base.ANIMA),
    ),
    "lumina 2": (
        {"cap_embedder.1.weight": (2304, 2304), _LUMINA_NORM: (96,)},
        *model(Base.LUMINA2),
    ),
    "lumina 2 in pixels": (
        {
            "cap_embedder.1.weight": (2304, 2304),
            _LUMINA_NORM: (96,),
            "dec_net.cond_embed.weight": (1, 1),
        },
        *model(Base.LUMINA2, "pixel-space"),
    ),
    "newbie": (
        {
            "cap_embedder.1.weight": (2304, 2304),
            _LUMINA_NORM: (96,),
            "clip_text_pooled_proj.0.weight": (1,),
        },
        *model(Base.NEWBIE),
    ),
    "lumina 2 under diffusers names": (
        names("time_caption_embed.timestep_embedder.linear_1.bias"),
        *model(Base.LUMINA2),
    ),
    "z-image": (
        {"cap_embedder.1.weight": (3840, 2560), _LUMINA_NORM: (128,)},
        *model(Base.Z_IMAGE),
    ),
    "z-image in pixels": (
        {
            "cap_embedder.1.weight": (3840, 2560),
            _LUMINA_NORM: (128,),
            "dec_net.cond_embed.weight": (1, 1),
        },
        *model(Base.Z_IMAGE, "pixel-space"),
    ),
    "z-image under diffusers names": (
        names("layers.0.adaLN_modulation.0.weight", "cap_embedder.1.weight"),
        *model(Base.Z_IMAGE),
    ),
    "wan text": (_wan(1536, 16), *model(Base.WAN, "t2v-1.3b")),
    "wan text, large": (_wan(5120, 16), *model(Base.WAN, "t2v-14b")),
    "wan picture": (_wan(5120, 36), *model(Base.WAN, "i2v")),
    "wan picture of old": (
        _wan(5120, 36, img_emb__proj__0__bias=(1280,)),
        *model(Base.WAN, "i2v"),
    ),
    "wan fun": (_wan(5120, 48), *model(Base.WAN, "fun")),
    "wan vace": (_wan(5120, 16, vace_blocks__0__norm3__bias=(5120,)), *model(Base.WAN, "vace")),
    "wan animate": (
        _wan(5120, 36, face_adapter__fuser_blocks__0__k_norm__weight=(128,)),
        *model(Base.WAN, "animate"),
    ),
    "wan 2.2 small": (
        {**_wan(3072, 48), "head.head.weight": (192, 3072)},
        *model(Base.WAN, "2.2-5b"),
    ),
    "hidream": (names("caption_projection.0.linear.weight"), *model(Base.HIDREAM, "i1")),
    "hidream o1": (
        names("x_embedder.proj1.weight", "t_embedder1.mlp.0.weight"),
        *model(Base.HIDREAM, "o1"),
    ),
    "omnigen 2": (
        names(
            "time_caption_embed.timestep_embedder.linear_1.bias", "ref_image_patch_embedder.weight"
        ),
        *model(Base.OMNIGEN2),
    ),
    "boogu": (
        names(
            "time_caption_embed.timestep_embedder.linear_1.bias",
            "double_stream_layers.0.img_instruct_attn.processor.img_to_q.weight",
        ),
        *model(Base.BOOGU),
    ),
    "qwen image": (
        {
            "txt_norm.weight": (3584,),
            "img_in.weight": (3072, 64),
            "transformer_blocks.0.img_mod.1.weight": (18432, 3072),
        },
        *model(Base.QWEN_IMAGE),
    ),
    "qwen image of nunchaku": (
        {
            "txt_norm.weight": (3584,),
            "img_in.weight": (3072, 64),
            "transformer_blocks.0.img_mod.1.qweight": (18432, 1536),
        },
        *model(Base.QWEN_IMAGE),
    ),
    "flux of nunchaku": (
        {
            "single_transformer_blocks.0.mlp_fc1.qweight": (12288, 1536),
            "single_transformer_blocks.0.mlp_fc1.wscales": (48, 12288),
            "single_transformer_blocks.0.mlp_fc1.lora_down": (3072, 32),
            "x_embedder.weight": (3072, 64),
        },
        *model(Base.FLUX, "schnell"),
    ),
    "qwen image layered": (
        {
            "txt_norm.weight": (3584,),
            "img_in.weight": (3072, 64),
            "transformer_blocks.0.img_mod.1.weight": (18432, 3072),
            "time_text_embed.addition_t_embedding.weight": (2, 3072),
        },
        *model(Base.QWEN_IMAGE, "layered"),
    ),
    "mage flow": (
        {"txt_norm.weight": (2560,), "img_in.weight": (1, 1), "proj_out.weight": (128, 1)},
        *model(Base.MAGE_FLOW),
    ),
    "kandinsky 5": (
        names("visual_transformer_blocks.0.cross_attention.key_norm.weight"),
        *model(Base.KANDINSKY5),
    ),
    "sana": (
        names(
            "t_block.1.weight",
            "blocks.0.cross_attn.q_linear.weight",
            "blocks.0.mlp.inverted_conv.conv.weight",
        ),
        *model(Base.SANA),
    ),
    "sana under diffusers names": (
        names("transformer_blocks.0.ff.conv_inverted.weight"),
        *model(Base.SANA),
    ),
    "krea 2": (names("txtfusion.projector.weight"), *model(Base.KREA2)),
    "ideogram 4": (names("embed_image_indicator.weight"), *model(Base.IDEOGRAM4)),
    "ernie image": (names("layers.0.mlp.linear_fc2.weight"), *model(Base.ERNIE_IMAGE)),
    "lens": (
        names(
            "transformer_blocks.0.attn.norm_added_q.weight",
            "transformer_blocks.0.img_mlp.w1.weight",
        ),
        *model(Base.LENS),
    ),
}
"""Transformer families by their telling names and shapes."""
