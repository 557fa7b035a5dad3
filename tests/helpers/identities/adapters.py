"""Adapters and embeddings."""

from __future__ import annotations

from collections.abc import Mapping

from helpers.identities.common import Expected
from helpers.sd1 import Shapes, lora_shapes

from converters.identify import Base, Kind


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
    "flux lora of the double blocks alone": (
        _peft({"transformer.transformer_blocks.0.attn.to_q": (3072, 3072)}),
        *_adapter(Base.FLUX),
    ),
    "flux 2 lora of the double blocks alone": (
        _peft({"transformer.transformer_blocks.0.attn.to_q": (6144, 6144)}),
        *_adapter(Base.FLUX2),
    ),
    "qwen lora of the attention alone": (
        _peft({"transformer.transformer_blocks.59.attn.to_q": (3072, 3072)}),
        *_adapter(Base.QWEN_IMAGE),
    ),
    "hunyuan video lora of diffusers": (
        _peft({"transformer.single_transformer_blocks.39.attn.to_q": (3072, 3072)}),
        *_adapter(Base.HUNYUAN_VIDEO),
    ),
    "chroma lora": (
        _peft(
            {
                "diffusion_model.double_blocks.0.img_attn.qkv": (9216, 3072),
                "diffusion_model.distilled_guidance_layer.layers.0.in_layer": (5120, 5120),
            }
        ),
        *_adapter(Base.CHROMA),
    ),
    "mochi lora": (
        _peft(
            {
                "transformer.transformer_blocks.0.attn1.to_q": (3072, 3072),
                "transformer.transformer_blocks.0.attn1.add_q_proj": (3072, 1536),
            }
        ),
        *_adapter(Base.MOCHI),
    ),
    "mochi lora under its own names": (
        _peft({"diffusion_model.blocks.0.attn.qkv_x": (9216, 3072)}),
        *_adapter(Base.MOCHI),
    ),
    "cogvideox lora": (
        _peft({"transformer.transformer_blocks.0.attn1.to_q": (1920, 1920)}),
        *_adapter(Base.COGVIDEOX),
    ),
    "pixart lora": (
        _peft({"transformer.transformer_blocks.0.attn1.to_q": (1152, 1152)}),
        *_adapter(Base.PIXART),
    ),
    "sana lora": (
        _peft({"transformer.transformer_blocks.0.attn1.to_q": (2240, 2240)}),
        *_adapter(Base.SANA),
    ),
    "small sana lora": (
        _peft(
            {
                "transformer.transformer_blocks.0.attn1.to_q": (1152, 1152),
                "transformer.transformer_blocks.0.ff.conv_point": (1152, 2880),
            }
        ),
        *_adapter(Base.SANA),
    ),
    "wan lora of diffusers": (
        _peft({"transformer.blocks.0.attn1.to_q": (5120, 5120)}),
        *_adapter(Base.WAN),
    ),
    "wan lora of fun": (
        _lora({"lora_unet__blocks_0_cross_attn_k": (5120, 5120)}),
        *_adapter(Base.WAN),
    ),
    "hunyuan dit lora of diffusers": (
        _peft({"transformer.blocks.0.attn1.to_q": (1408, 1408)}),
        *_adapter(Base.HUNYUAN_DIT),
    ),
    "lumina lora of diffusers": (
        _peft({"transformer.layers.0.attn.to_q": (2304, 2304)}),
        *_adapter(Base.LUMINA2),
    ),
    "omnigen lora": (
        _peft({"transformer.layers.0.attn.to_q": (2520, 2520)}),
        *_adapter(Base.OMNIGEN2),
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
    "flux embedding as ComfyUI names it": (
        {"clip_l": (2, 768), "t5xxl": (3, 4096)},
        *(Kind.EMBEDDING, Base.FLUX, None),
    ),
    "sd3 embedding as ComfyUI names it": (
        {"clip_l": (768,), "clip_g": (1280,), "t5xxl": (4096,)},
        *(Kind.EMBEDDING, Base.SD3, None),
    ),
    "t5xxl embedding": ({"t5xxl": (2, 4096)}, *(Kind.EMBEDDING, Base.UNKNOWN, None)),
    "t5 embedding": ({"t5": (2, 4096)}, *(Kind.EMBEDDING, Base.UNKNOWN, None)),
}
"""Embeddings for several text encoders."""
