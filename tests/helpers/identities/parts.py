"""Autoencoders and text encoders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from helpers.identities.common import Expected, names, without
from helpers.sd1 import SMALL, TRUE, Shapes, clip_shapes, prefixed, vae_shapes

from converters.identify import Base, Kind

_FULL_VAE = vae_shapes()
_VAE16 = without(vae_shapes(replace(TRUE, latent=16)), "quant_conv")


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
        names("decoder.middle.0.residual.0.gamma"),
        *_vae(Base.UNKNOWN, "16-channel"),
    ),
    "wan 2.2 vae": (
        names(
            "decoder.middle.0.residual.0.gamma",
            "decoder.upsamples.0.upsamples.0.residual.2.weight",
        ),
        *_vae(Base.WAN, "2.2"),
    ),
    "wan vae under diffusers names": (
        {
            "decoder.conv_in.weight": (384, 16, 3, 3, 3),
            "decoder.mid_block.resnets.0.norm1.gamma": (384, 1, 1, 1),
            "decoder.mid_block.resnets.0.conv1.weight": (384, 384, 3, 3, 3),
        },
        *_vae(Base.UNKNOWN, "16-channel"),
    ),
    "wan 2.2 vae under diffusers names": (
        {
            "decoder.conv_in.weight": (1024, 48, 3, 3, 3),
            "decoder.mid_block.resnets.0.norm1.gamma": (1024, 1, 1, 1),
        },
        *_vae(Base.WAN, "2.2"),
    ),
    "hunyuan video 1.5 vae under diffusers names": (
        {
            "decoder.conv_in.conv.weight": (1024, 32, 3, 3, 3),
            "decoder.mid_block.resnets.0.norm1.gamma": (1024, 1, 1, 1),
        },
        *_vae(Base.HUNYUAN_VIDEO, "1.5"),
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
    "mochi vae": (names("decoder.blocks.2.blocks.3.stack.5.weight"), *_vae(Base.MOCHI)),
    "mochi vae under diffusers names": (
        names("decoder.block_in.resnets.0.norm1.norm_layer.weight"),
        *_vae(Base.MOCHI),
    ),
    "cosmos vae": (names("decoder.unpatcher3d.wavelets"), *_vae(Base.COSMOS1)),
    "ltx vae": (
        {
            "decoder.conv_in.conv.weight": (1024, 128, 3, 3, 3),
            "decoder.up_blocks.0.res_blocks.0.conv1.conv.weight": (1024, 1024, 3, 3, 3),
        },
        *_vae(Base.UNKNOWN),
    ),
    "dc-ae": (
        names("decoder.stages.1.op_list.0.main.conv.conv.bias"),
        *_vae(Base.SANA, "dc-ae"),
    ),
    "dc-ae under diffusers names": (
        {
            "decoder.conv_in.weight": (1024, 32, 3, 3),
            "decoder.up_blocks.0.1.conv1.weight": (128, 128, 3, 3),
        },
        *_vae(Base.SANA, "dc-ae"),
    ),
    "cascade c encoder": (
        names("backbone.1.0.block.0.1.num_batches_tracked"),
        *_vae(Base.CASCADE, "stage-c"),
    ),
    "cascade c decoder": (
        names("blocks.11.num_batches_tracked"),
        *_vae(Base.CASCADE, "stage-c"),
    ),
    "cascade a": (names("vquantizer.codebook.weight"), *_vae(Base.CASCADE, "stage-a")),
    "taehv": (names("decoder.22.bias"), *_vae(Base.UNKNOWN, "taehv")),
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


def clip(layers: int, width: int, rows: int = 77) -> Shapes:
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


def _llama(width: int, **more: tuple[int, ...]) -> Shapes:
    """A language model under the names of llama.cpp."""
    return {
        "token_embd.weight": (1000, width),
        "blk.0.attn_norm.weight": (width,),
        "blk.0.attn_k.weight": (512, width),
        "blk.0.ffn_gate.weight": (4 * width, width),
        **{f"blk.0.{name.replace('__', '.')}": size for name, size in more.items()},
    }


def _gguf_t5(block: str, **layers: tuple[int, ...]) -> Shapes:
    return {
        "token_embd.weight": (32128, 4096),
        "enc.blk.0.attn_k.weight": (4096, 4096),
        **{f"enc.blk.{block}.{layer}.weight": size for layer, size in layers.items()},
    }


_T5_BIAS = "layer.0.SelfAttention.relative_attention_bias.weight"
_T5_KEYS = "encoder.block.0.layer.0.SelfAttention.k.weight"
_T5_LAST = "encoder.block.23.layer.1.DenseReluDense"

TEXT_ENCODERS: Mapping[str, Expected] = {
    "small clip": (prefixed("text_model.", clip_shapes(SMALL)), *_text("clip-l")),
    "clip-l": (clip(12, 768), *_text("clip-l")),
    "clip-l without text_model": (
        {n.removeprefix("text_model."): t for n, t in clip(12, 768).items()},
        *_text("clip-l"),
    ),
    "long clip": (clip(12, 768, rows=248), *_text("long-clip-l")),
    "clip-h": (clip(23, 1024), *_text("clip-h", Base.SD2)),
    "clip-g": (clip(32, 1280), *_text("clip-g")),
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
    "t5-xxl of gguf": (_gguf_t5("23", ffn_up=(10240, 4096)), *_text("t5-xxl")),
    "umt5-xxl": (
        {_T5_KEYS: (4096, 4096), f"encoder.block.23.{_T5_BIAS}": (32, 64)},
        *_text("umt5-xxl", Base.WAN),
    ),
    "umt5-xxl of gguf": (
        _gguf_t5("23", ffn_up=(10240, 4096), attn_rel_b=(32, 64)),
        *_text("umt5-xxl", Base.WAN),
    ),
    "umt5-xxl of wan": (
        {
            "token_embedding.weight": (256384, 4096),
            "blocks.0.attn.q.weight": (4096, 4096),
            **{f"blocks.{n}.pos_embedding.embedding.weight": (32, 64) for n in range(24)},
        },
        *_text("umt5-xxl", Base.WAN),
    ),
    "umt5-base": (
        {_T5_KEYS: (768, 768), f"encoder.block.1.{_T5_BIAS}": (32, 12)},
        *_text("umt5-base"),
    ),
    "qwen 2.5 of gguf": (_llama(3584, attn_k__bias=(512,)), *_text("qwen2.5-7b")),
    "qwen 3 of gguf": (_llama(2560, attn_q_norm__weight=(128,)), *_text("qwen3-4b")),
    "gemma of gguf": (
        _llama(2304, post_ffw_norm__weight=(2304,)),
        *_text("gemma-2-2b", Base.LUMINA2),
    ),
    "llama of gguf": (
        {**_llama(4096), "token_embd.weight": (128256, 4096)},
        *_text("llama-3-8b"),
    ),
    "chatglm": (
        {"transformer.encoder.layers.0.self_attention.query_key_value.weight": (4608, 4096)},
        *_text("chatglm3-6b", Base.KOLORS),
    ),
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
    "siglip of transformers 5": (
        {
            "embeddings.patch_embedding.weight": (1152, 3, 14, 14),
            "post_layernorm.weight": (1152,),
        },
        *(Kind.CLIP_VISION, Base.ANY, "siglip-so400m"),
    ),
    "blip": (
        {
            "vision_model.embeddings.patch_embedding.weight": (768, 3, 16, 16),
            "text_decoder.bert.embeddings.word_embeddings.weight": (30524, 768),
        },
        *(Kind.OTHER, Base.UNKNOWN, None),
    ),
    "open clip vision": (
        {"visual.transformer.resblocks.0.ln_1.weight": (1280,), "visual.class_embedding": (1280,)},
        *(Kind.CLIP_VISION, Base.ANY, "clip-vit-h"),
    ),
}
"""Encoders of texts and pictures alone."""
