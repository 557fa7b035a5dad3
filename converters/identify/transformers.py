"""Transformer families under the names of their makers, the prefix of the denoiser taken off.

Source: ComfyUI `comfy/model_detection.py` and `comfy/supported_models.py`. Sizes stand where they
tell variants apart. Under the names of diffusers they are in `transformers_diffusers`.
"""

from __future__ import annotations

from converters.bases import Base, Prediction
from converters.identify.conditions import (
    ALWAYS,
    both,
    either,
    has_any,
    has_prefix,
    matching,
    no,
    shape,
    size,
)
from converters.identify.families import Family, Variants

_EPSILON, _EDM, _UNKNOWN = Prediction.EPSILON, Prediction.EDM, Prediction.UNKNOWN

# Shared by Flux, Flux.2, Chroma and some that were built from them.
_FLUX_ATTENTION = has_any(
    "double_blocks.0.img_attn.norm.key_norm.scale", "double_blocks.0.img_attn.norm.key_norm.weight"
)
_FLUX2 = has_any("double_stream_modulation_img.lin.weight")
_CHROMA = has_prefix("distilled_guidance_layer.")
_OVIS = has_any("double_blocks.0.img_mlp.gate_proj.weight")
_LONGCAT = both(size("txt_in.weight", 1, 3584), no(has_prefix("vector_in.")))
_FLUX_VARIANTS: Variants = (
    ("fill", size("img_in.weight", 1, 384)),
    ("control", size("img_in.weight", 1, 128)),
    ("flex-2", size("img_in.weight", 1, 196)),
    ("dev", has_prefix("guidance_in.")),
    ("schnell", ALWAYS),
)
_FLUX2_VARIANTS: Variants = (
    ("klein-4b", size("img_in.weight", 0, 3072)),
    ("klein-9b", size("img_in.weight", 0, 4096)),
    ("dev", has_prefix("single_blocks.47.")),
)

_SD3_MARK = "joint_blocks.0.context_block.attn.qkv.weight"
_SD3_NORM = has_any("joint_blocks.0.context_block.attn.ln_q.weight")
_SD3_VARIANTS: Variants = (
    ("3.5-large", has_prefix("joint_blocks.37.")),
    ("3.5-medium", both(_SD3_NORM, matching(r"\.x_block\.attn2\.qkv\."))),
    ("medium", both(no(_SD3_NORM), size("x_embedder.proj.weight", 0, 1536))),
)

_LUMINA = ("cap_embedder.1.weight", "noise_refiner.0.attention.k_norm.weight")
_PIXEL_SPACE: Variants = (("pixel-space", has_any("dec_net.cond_embed.weight")),)
_NEWBIE = has_prefix("clip_text_pooled_proj.")

_ADALN_SINGLE = "adaln_single.emb.timestep_embedder.linear_1.bias"
_SANA_MLP = matching(r"^blocks\.\d+\.mlp\.inverted_conv\.")
_SANA = either(_SANA_MLP, no(has_any("t_block.1.weight")))  # PixArt has the same attention
_OMNIGEN2 = has_prefix("ref_image_patch_embedder.", "ref_image_refiner.", "image_index_embedding")
_TIME_CAPTION = "time_caption_embed.timestep_embedder.linear_1.bias"
_SMALL_WAN, _BIG_WAN = size("head.modulation", -1, 1536), size("head.modulation", -1, 5120)
_WAN_TEXT = size("patch_embedding.weight", 1, 16)
_WAN_IMAGE = either(has_any("img_emb.proj.0.bias"), size("patch_embedding.weight", 1, 36))
_WAN_VARIANTS: Variants = (
    ("vace", has_prefix("vace_")),
    ("animate", has_prefix("face_adapter.")),
    ("2.2-5b", size("head.head.weight", 0, 192)),  # 48 latent channels of 2x2 patches
    ("i2v", _WAN_IMAGE),
    ("fun", size("patch_embedding.weight", 1, 48)),
    ("t2v-1.3b", both(_WAN_TEXT, _SMALL_WAN)),
    ("t2v-14b", both(_WAN_TEXT, _BIG_WAN)),
)
_HUNYUAN_VIDEO = "txt_in.individual_token_refiner.blocks.0.norm1.weight"
_FLAT_PATCHES = shape("img_in.proj.weight", None, None, None, None)

TRANSFORMERS = (
    Family("sd-3", Base.SD3, (_SD3_MARK,), variants=_SD3_VARIANTS),
    Family(
        "stable-cascade-c",
        Base.CASCADE,
        ("clf.1.weight", "clip_txt_mapper.weight"),
        variants=(
            ("stage-c-lite", size("clip_txt_mapper.weight", 0, 1536)),
            ("stage-c", ALWAYS),
        ),
        prediction=_EPSILON,
    ),
    Family(
        "stable-cascade-b",
        Base.CASCADE,
        ("clf.1.weight", "down_blocks.1.0.channelwise.0.weight"),
        no(has_any("clip_txt_mapper.weight")),
        (
            ("stage-b-lite", size("down_blocks.1.0.channelwise.0.weight", -1, 576)),
            ("stage-b", ALWAYS),
        ),
        prediction=_EPSILON,
    ),
    Family("auraflow", Base.AURAFLOW, ("double_layers.0.attn.w1q.weight",)),
    Family("hunyuan-dit", Base.HUNYUAN_DIT, ("mlp_t5.0.weight",), prediction=_UNKNOWN),
    Family(
        "hunyuan-video",
        Base.HUNYUAN_VIDEO,
        (_HUNYUAN_VIDEO,),
        no(_FLAT_PATCHES),
        (("1.5", has_any("vision_in.proj.0.weight")),),
    ),
    Family("hunyuan-image", Base.HUNYUAN_IMAGE, (_HUNYUAN_VIDEO,), _FLAT_PATCHES),
    Family(
        "flux-2", Base.FLUX2, ("img_in.weight",), both(_FLUX_ATTENTION, _FLUX2), _FLUX2_VARIANTS
    ),
    Family(
        "chroma",
        Base.CHROMA,
        when=both(_FLUX_ATTENTION, _CHROMA),
        variants=(("radiance", has_any("nerf_blocks.0.norm.scale")),),
    ),
    Family(
        "flux",
        Base.FLUX,
        ("img_in.weight",),
        both(_FLUX_ATTENTION, no(either(_FLUX2, _CHROMA, _OVIS, _LONGCAT))),
        _FLUX_VARIANTS,
    ),
    Family("longcat-image", Base.LONGCAT, ("img_in.weight",), both(_FLUX_ATTENTION, _LONGCAT)),
    Family("ovis-image", Base.OVIS, ("img_in.weight",), both(_FLUX_ATTENTION, _OVIS)),
    Family("mochi", Base.MOCHI, ("t5_yproj.weight",)),
    Family(
        "pixart",
        Base.PIXART,
        ("t_block.1.weight",),
        no(_SANA_MLP),
        (("alpha", has_any("ar_embedder.mlp.0.weight")), ("sigma", ALWAYS)),
        _EPSILON,
    ),
    Family("ltx-2", Base.LTX2, ("audio_adaln_single.linear.weight",)),
    Family(
        "ltx-video",
        Base.LTX,
        (_ADALN_SINGLE,),
        no(either(has_any("pos_embed.proj.bias"), has_prefix("audio_adaln_single."))),
    ),
    Family(
        "cogvideox",
        Base.COGVIDEOX,
        ("blocks.0.norm1.linear.weight", "patch_embed.proj.weight"),
        prediction=Prediction.V,
    ),
    Family(
        "cosmos-1",
        Base.COSMOS1,
        ("blocks.block0.blocks.0.block.attn.to_q.0.weight",),
        prediction=_EDM,
    ),
    Family(
        "cosmos-predict2",
        Base.COSMOS2,
        ("blocks.0.mlp.layer1.weight",),
        no(has_prefix("llm_adapter.")),
        prediction=_EDM,
    ),
    Family(
        "anima",
        Base.ANIMA,
        ("blocks.0.mlp.layer1.weight", "llm_adapter.blocks.0.cross_attn.q_proj.weight"),
    ),
    Family(
        "lumina-2",
        Base.LUMINA2,
        _LUMINA,
        both(size(_LUMINA[0], 0, 2304), no(_NEWBIE)),
        _PIXEL_SPACE,
    ),
    Family("newbie", Base.NEWBIE, _LUMINA, _NEWBIE),
    Family(
        "z-image", Base.Z_IMAGE, _LUMINA, both(size(_LUMINA[0], 0, 3840), no(_NEWBIE)), _PIXEL_SPACE
    ),
    Family("wan", Base.WAN, ("head.modulation",), variants=_WAN_VARIANTS),
    Family(
        "hidream-i1",
        Base.HIDREAM,
        ("caption_projection.0.linear.weight",),
        variants=(("i1", ALWAYS),),
    ),
    Family(
        "hidream-o1",
        Base.HIDREAM,
        ("x_embedder.proj1.weight",),
        has_prefix("t_embedder1."),
        (("o1", ALWAYS),),
    ),
    Family("omnigen-2", Base.OMNIGEN2, (_TIME_CAPTION,), _OMNIGEN2),
    Family(
        "boogu",
        Base.BOOGU,
        ("double_stream_layers.0.img_instruct_attn.processor.img_to_q.weight",),
        beats=frozenset({"omnigen-2", "lumina-2-diffusers"}),
    ),
    Family(
        "qwen-image",
        Base.QWEN_IMAGE,
        ("txt_norm.weight", "img_in.weight"),
        both(
            size("txt_norm.weight", 0, 3584),
            has_any(
                "transformer_blocks.0.img_mod.1.weight",
                "transformer_blocks.0.img_mod.1.qweight",  # 4 bits of Nunchaku
            ),
        ),
        (("layered", has_any("time_text_embed.addition_t_embedding.weight")),),
    ),
    Family(
        "mage-flow",
        Base.MAGE_FLOW,
        ("txt_norm.weight", "img_in.weight"),
        both(size("txt_norm.weight", 0, 2560), size("proj_out.weight", 0, 128)),
    ),
    Family(
        "kandinsky-5",
        Base.KANDINSKY5,
        ("visual_transformer_blocks.0.cross_attention.key_norm.weight",),
    ),
    Family("sana", Base.SANA, ("blocks.0.cross_attn.q_linear.weight",), _SANA),
    Family("krea-2", Base.KREA2, ("txtfusion.projector.weight",)),
    Family("ideogram-4", Base.IDEOGRAM4, ("embed_image_indicator.weight",)),
    Family("ernie-image", Base.ERNIE_IMAGE, ("layers.0.mlp.linear_fc2.weight",)),
    Family(
        "lens",
        Base.LENS,
        ("transformer_blocks.0.attn.norm_added_q.weight",),
        has_any("transformer_blocks.0.img_mlp.w1.weight"),
    ),
)
