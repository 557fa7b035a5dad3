"""Transformer families under the names that diffusers gives them.

Source: huggingface/diffusers `models/transformers` and `loaders/single_file_utils.py`. Families
that diffusers names as their makers do are in `transformers`.
"""

from __future__ import annotations

from functools import partial

from converters.bases import Base, Prediction
from converters.identify.conditions import (
    ALWAYS,
    both,
    either,
    has_all,
    has_any,
    has_prefix,
    no,
    shape,
    size,
)
from converters.identify.families import Family, Variants

_family = partial(Family, layout="diffusers")

_SD3_VARIANTS: Variants = (
    ("3.5-large", has_prefix("transformer_blocks.37.")),
    ("3.5-medium", has_prefix("transformer_blocks.0.attn2.")),
    (
        "medium",
        both(
            no(has_any("transformer_blocks.0.attn.norm_q.weight")),
            has_prefix("transformer_blocks.23."),
        ),
    ),
)

_FLUX_BLOCKS = both(
    has_any(
        "single_transformer_blocks.0.attn.to_q.weight",
        "single_transformer_blocks.0.mlp_fc1.qweight",  # 4 bits of Nunchaku
    ),
    has_all("x_embedder.weight"),
)
_CHROMA = has_prefix("distilled_guidance_layer.")
_OVIS = has_any("context_embedder_norm.weight")
_OTHER_TIME = has_prefix("time_embed.")  # Flux embeds time and text together
_LONGCAT = both(_OTHER_TIME, size("context_embedder.weight", 1, 3584))
_FLUX_VARIANTS: Variants = (
    ("fill", size("x_embedder.weight", 1, 384)),
    ("control", size("x_embedder.weight", 1, 128)),
    ("dev", has_prefix("time_text_embed.guidance_embedder.")),
    ("schnell", ALWAYS),
)

_ADALN_SINGLE = "adaln_single.emb.timestep_embedder.linear_1.bias"
_ALLEGRO = size("pos_embed.proj.bias", 0, 2304)
_HUNYUAN_VIDEO = "context_embedder.token_refiner.refiner_blocks.0.norm1.weight"
_FLAT_PATCHES = shape("x_embedder.proj.weight", None, None, None, None)
_COSMOS = ("time_embed.t_embedder.linear_1.weight", "transformer_blocks.0.norm1.linear_1.weight")
_COSMOS_1 = has_prefix("learnable_pos_embed.")
_WAN_TEXT = size("patch_embedding.weight", 1, 16)
_WAN_IMAGE = either(
    has_prefix("condition_embedder.image_embedder."), size("patch_embedding.weight", 1, 36)
)
_WAN_VARIANTS: Variants = (
    ("vace", has_prefix("vace_blocks.")),
    ("animate", has_prefix("face_encoder.")),
    ("2.2-5b", size("proj_out.weight", 0, 192)),  # 48 latent channels of 2x2 patches
    ("i2v", _WAN_IMAGE),
    ("t2v-1.3b", both(_WAN_TEXT, size("scale_shift_table", -1, 1536))),
    ("t2v-14b", both(_WAN_TEXT, size("scale_shift_table", -1, 5120))),
)

TRANSFORMERS_DIFFUSERS = (
    _family(
        "sd-3-diffusers",
        Base.SD3,
        ("transformer_blocks.0.attn.add_q_proj.weight", "pos_embed.proj.weight"),
        no(has_prefix("single_transformer_blocks.")),
        _SD3_VARIANTS,
    ),
    _family(
        "auraflow-diffusers",
        Base.AURAFLOW,
        ("joint_transformer_blocks.0.attn.add_q_proj.weight", "register_tokens"),
    ),
    _family(
        "hunyuan-dit-diffusers",
        Base.HUNYUAN_DIT,
        ("time_extra_emb.timestep_embedder.linear_1.weight",),
        prediction=Prediction.UNKNOWN,
    ),
    _family(
        "hunyuan-video-diffusers",
        Base.HUNYUAN_VIDEO,
        (_HUNYUAN_VIDEO,),
        no(_FLAT_PATCHES),
        (("1.5", has_prefix("context_embedder_2.")),),
    ),
    _family("hunyuan-image-diffusers", Base.HUNYUAN_IMAGE, (_HUNYUAN_VIDEO,), _FLAT_PATCHES),
    _family(
        "flux-2-diffusers",
        Base.FLUX2,
        ("single_transformer_blocks.0.attn.to_qkv_mlp_proj.weight",),
        variants=(
            ("klein-4b", size("x_embedder.weight", 0, 3072)),
            ("klein-9b", size("x_embedder.weight", 0, 4096)),
            ("dev", has_prefix("single_transformer_blocks.47.")),
        ),
    ),
    _family("chroma-diffusers", Base.CHROMA, when=both(_FLUX_BLOCKS, _CHROMA)),
    _family(
        "flux-diffusers",
        Base.FLUX,
        when=both(_FLUX_BLOCKS, no(either(_CHROMA, _OVIS, _OTHER_TIME))),
        variants=_FLUX_VARIANTS,
    ),
    _family("longcat-image-diffusers", Base.LONGCAT, when=both(_FLUX_BLOCKS, _LONGCAT)),
    _family("ovis-image-diffusers", Base.OVIS, when=both(_FLUX_BLOCKS, _OVIS)),
    _family("mochi-diffusers", Base.MOCHI, ("time_embed.pooler.to_kv.weight",)),
    _family(
        "pixart-diffusers",
        Base.PIXART,
        (_ADALN_SINGLE,),
        both(has_any("pos_embed.proj.bias"), no(_ALLEGRO)),
        (("alpha", has_prefix("adaln_single.emb.resolution_embedder.")),),
        Prediction.EPSILON,
    ),
    _family("ltx-2-diffusers", Base.LTX2, ("audio_time_embed.linear.weight",)),
    _family(
        "ltx-video-diffusers",
        Base.LTX,
        ("time_embed.emb.timestep_embedder.linear_1.weight", "proj_in.weight"),
        no(has_prefix("audio_time_embed.")),
    ),
    _family(
        "cogvideox-diffusers",
        Base.COGVIDEOX,
        ("patch_embed.text_proj.weight", "transformer_blocks.0.norm1.norm.weight"),
        prediction=Prediction.V,
    ),
    _family("cosmos-1-diffusers", Base.COSMOS1, _COSMOS, _COSMOS_1, prediction=Prediction.EDM),
    _family(
        "cosmos-predict2-diffusers", Base.COSMOS2, _COSMOS, no(_COSMOS_1), prediction=Prediction.EDM
    ),
    _family(
        "z-image-diffusers",
        Base.Z_IMAGE,
        ("layers.0.adaLN_modulation.0.weight", "cap_embedder.1.weight"),
        no(has_any("noise_refiner.0.attention.k_norm.weight")),
    ),
    _family(
        "lumina-2-diffusers",
        Base.LUMINA2,
        ("time_caption_embed.timestep_embedder.linear_1.bias",),
        no(has_prefix("ref_image_patch_embedder.", "ref_image_refiner.", "image_index_embedding")),
    ),
    _family(
        "wan-diffusers",
        Base.WAN,
        ("condition_embedder.time_proj.weight", "blocks.0.attn1.to_q.weight"),
        variants=_WAN_VARIANTS,
    ),
    _family("sana-diffusers", Base.SANA, ("transformer_blocks.0.ff.conv_inverted.weight",)),
)
