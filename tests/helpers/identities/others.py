"""ControlNets, upscalers and what is neither."""

from __future__ import annotations

from collections.abc import Mapping

from helpers.identities.common import SDXL, Expected, diffusers, names, without
from helpers.identities.parts import clip
from helpers.identities.transformers import GUIDED, GUIDED_DIFFUSERS, SD3_DIFFUSERS
from helpers.sd1 import SMALL, prefixed, unet_shapes

from converters.identify import Base, Kind


def _control(base: Base, variant: str | None = None) -> tuple[Kind, Base, str | None]:
    return Kind.CONTROLNET, base, variant


CONTROLS: Mapping[str, Expected] = {
    "flux controlnet": (
        {**GUIDED, "controlnet_blocks.0.weight": (3072, 3072)},
        *_control(Base.FLUX),
    ),
    "flux controlnet union of diffusers": (
        {
            **GUIDED_DIFFUSERS,
            "controlnet_blocks.0.weight": (3072, 3072),
            "controlnet_mode_embedder.weight": (10, 3072),
        },
        *_control(Base.FLUX, "union"),
    ),
    "sd3 controlnet": (
        {**SD3_DIFFUSERS, "controlnet_blocks.0.weight": (1536, 1536)},
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
    "qwen controlnet of DiffSynth": (
        {"controlnet_blocks.0.y_rms.weight": (3072,), "img_in.weight": (3072, 64)},
        *_control(Base.QWEN_IMAGE),
    ),
    "qwen controlnet fun": (
        names("control_img_in.weight", "control_blocks.0.after_proj.weight"),
        *_control(Base.QWEN_IMAGE),
    ),
    "z-image controlnet": (
        names("control_all_x_embedder.2-1.weight", "control_layers.0.attention.to_q.weight"),
        *_control(Base.Z_IMAGE),
    ),
    "brushnet": (
        {
            **without(diffusers(unet_shapes(SMALL), "unet"), "attn2"),
            "brushnet_down_blocks.0.weight": (32, 32, 1, 1),
        },
        *_control(Base.UNKNOWN, "brushnet"),
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
        names(
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
    "flux ip adapter for all blocks": (
        {"image_proj.norm.bias": (4096,), "ip_adapter.0.to_k_ip.weight": (3072, 4096)},
        *(Kind.IP_ADAPTER, Base.FLUX, None),
    ),
    "flux ip adapter": (
        names("double_blocks.0.processor.ip_adapter_double_stream_k_proj.weight"),
        *(Kind.IP_ADAPTER, Base.FLUX, None),
    ),
    "pulid": (
        names("id_adapter.latents", "id_adapter_attn_layers.0.id_to_k.weight"),
        *(Kind.IP_ADAPTER, Base.UNKNOWN, "pulid"),
    ),
    "photo maker": (
        names("id_encoder.visual_projection.weight", "lora_weights.a.lora_A.weight"),
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
    "motion module under diffusers names": (
        {
            "mid_block.motion_modules.0.norm.weight": (1280,),
            "up_blocks.3.motion_modules.0.transformer_blocks.0.attn1.to_q.weight": (320, 320),
        },
        *(Kind.MOTION_MODULE, Base.SD1, "v2"),
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

_DRUNET = ("m_head.weight", "m_down1.0.res.0.weight", "m_tail.weight")
_BY_NAMES = {
    "atd": ("conv_first.weight", "layers.0.residual_group.layers.0.attn_atd.scale"),
    "drct": ("conv_first.weight", "layers.0.swin1.norm1.weight"),
    "grl": ("conv_first.weight", "norm_start.weight", "norm_end.weight"),
    "craft": ("conv_first.weight", "layers.0.residual_group.hf_blocks.0.attn.temperature"),
    "mosr": ("gblocks.0.weight", "gblocks.1.fc1.weight"),
    "moesr": ("in_to_dim.weight", "blocks.0.blocks.0.gamma"),
    "real-cugan": ("unet1.conv1.conv.0.weight", "unet2.conv1.conv.0.weight"),
    "scunet": ("m_head.0.weight", "m_tail.0.weight"),
    "nafnet": ("intro.weight", "ending.weight", "middle_blks.0.beta"),
    "safmn": ("to_feat.weight", "feats.0.safm.aggr.weight"),
    "seemore": ("conv_1.weight", "body.0.local_block.norm_1.weight"),
    "rcan": ("head.0.weight", "tail.1.weight", "body.0.body.0.body.3.conv_du.0.weight"),
    "swift-srgan": ("initial.cnn.depthwise.weight", "final_conv.pointwise.weight"),
    "aura-sr": ("mid_attn.layers.0.0.to_out.weight", "final_res_block.block1.proj.weights"),
    "lama": ("generator.model.1.bn_l.running_mean",),
}

UPSCALERS: Mapping[str, Expected] = {
    "esrgan": (names("conv_first.weight", "body.0.rdb1.conv1.weight"), *_upscaler("esrgan")),
    "old esrgan": (
        names("model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"),
        *_upscaler("esrgan"),
    ),
    "compact": (
        {"body.0.weight": (64, 3, 3, 3), "body.1.weight": (64,)},
        *_upscaler("compact"),
    ),
    "swinir": (names(*_SWIN), *_upscaler("swinir")),
    "hat": (
        names(*_SWIN, "layers.0.residual_group.blocks.0.conv_block.cab.0.weight"),
        *_upscaler("hat"),
    ),
    "swin2sr": (
        names(*_SWIN, "layers.0.residual_group.blocks.0.attn.cpb_mlp.0.weight"),
        *_upscaler("swin2sr"),
    ),
    "dat": (names("before_RG.1.weight", "conv_first.weight"), *_upscaler("dat")),
    "rgt": (
        names("before_RG.1.weight", "conv_first.weight", "layers.0.blocks.0.gamma"),
        *_upscaler("rgt"),
    ),
    "drunet": (names(*_DRUNET), *_upscaler("drunet")),
    "fbcnn": (names(*_DRUNET, "qf_pred.0.res.0.weight"), *_upscaler("fbcnn")),
    **{word: (names(*marks), *_upscaler(word)) for word, marks in _BY_NAMES.items()},
    "span": (names("block_1.c1_r.sk.weight"), *_upscaler("span")),
    "omnisr": (
        names("input.weight", "residual_layer.0.residual_layer.0.layer.0.fn.0.weight"),
        *_upscaler("omnisr"),
    ),
    "plksr": (names("feats.1.lk.conv.weight"), *_upscaler("plksr")),
    "gfpgan": (names("stylegan_decoder.style_conv1.scale"), *_upscaler("gfpgan")),
    "codeformer": (
        names("quantize.embedding.weight", "ft_layers.0.linear1.weight"),
        *_upscaler("codeformer"),
    ),
    "srgan": (
        {"block1.0.weight": (64, 3, 9, 9), "block2.conv1.weight": (64, 64, 3, 3)},
        *_upscaler("srgan"),
    ),
    "vdsr": (
        names("residual_layer.0.conv.weight", "input.weight", "output.weight"),
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
        names("hidden_layers.0.weight", "out_proj.weight") | {"in_proj.weight": (12, 4)},
        *_OTHER,
    ),
    "safety checker": (
        names("special_care_embeds", "vision_model.vision_model.embeddings.class_embedding"),
        *_OTHER,
    ),
    "gligen": (
        names("position_net.null_positive_feature", "input_blocks.1.1.fuser.alpha_attn"),
        *_OTHER,
    ),
    "style model": (names("style_embedding", "proj"), *_OTHER),
    "flux redux": (names("redux_up.weight", "redux_down.weight"), *_OTHER),
    "image half of a language model": (
        names("v.blk.0.attn_q.weight", "v.patch_embd.weight", "mm.0.weight"),
        *_OTHER,
    ),
    "both halves of clip": (
        {
            "logit_scale": (),
            "vision_model.embeddings.patch_embedding.weight": (1024, 3, 14, 14),
            **clip(12, 768),
        },
        *_OTHER,
    ),
    "audio": (
        prefixed("model.model.", names("transformer.rotary_pos_emb.inv_freq")),
        *_OTHER,
    ),
    "hunyuan 3d": (names("latent_in.weight", "cond_in.weight"), *_OTHER),
    "segment anything": (names("image_encoder.neck.0.weight"), *_OTHER),
    "optimizer": (names("state.0.exp_avg", "state.0.exp_avg_sq"), *_OTHER),
    "random numbers": ({"cpu": (5056,), "numpy.1": (624,)}, *_OTHER),
    "merge weights": (dict.fromkeys(("BASE", "IN00", "M00", "OUT00"), ()), *_OTHER),
}
"""What is no model that we manage."""
