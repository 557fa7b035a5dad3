"""Networks that steer a denoiser: ControlNets, T2I- and IP-Adapters, motion modules.

Sources: ComfyUI `comfy/controlnet.py`, `comfy/t2i_adapter/adapter.py`; tencent-ailab/IP-Adapter;
guoyww/AnimateDiff; invoke-ai/InvokeAI `configs/{controlnet,ip_adapter}.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from converters.bases import Base
from converters.identify import denoisers
from converters.identify.conditions import (
    both,
    either,
    has_all,
    has_any,
    has_prefix,
    matching,
    no,
    size,
)
from converters.identify.description import Words, by_context, named
from converters.identify.names import Names
from converters.identify.row import Row
from converters.kinds import Kind

_CONTROLLED: Words = (
    (
        "qwen-image",
        has_any(
            "transformer_blocks.0.img_mod.1.weight",
            "controlnet_blocks.0.y_rms.weight",  # of DiffSynth-Studio
            "control_img_in.weight",
        ),
    ),
    ("z-image", has_prefix("control_all_x_embedder.")),
    ("flux", has_prefix("single_transformer_blocks.", "double_blocks.", "single_blocks.")),
    ("flux", size("controlnet_blocks.0.weight", 0, 3072)),
    ("sd-3", either(has_prefix("joint_blocks."), has_any("pos_embed.proj.weight"))),
    ("sd-3", size("controlnet_blocks.0.weight", 0, 1536, 2432)),
)
_CONTROL_VARIANTS: Words = (
    ("control-lora", has_any("lora_controlnet")),
    (
        "union",
        either(
            has_any("task_embedding", "control_model.task_embedding"),
            has_prefix("controlnet_mode_embedder."),
        ),
    ),
    ("brushnet", has_prefix("brushnet_down_blocks.")),
    ("difference", has_any("difference")),
)
_HINTED = either(
    has_prefix("control_model."),
    has_any("zero_convs.0.0.weight", "controlnet_cond_embedding.conv_in.weight", "lora_controlnet"),
    has_prefix("controlnet_blocks.", "control_all_x_embedder.", "brushnet_down_blocks."),
    has_any("controlnet_down_blocks.0.weight"),
    has_all("control_img_in.weight", "control_blocks.0.after_proj.weight"),
    both(has_prefix("control_add_embedding."), has_any("task_embedding")),
)


@dataclass(frozen=True, slots=True)
class _Frames:
    """The position tables of the temporal attention have room for so many frames."""

    count: int

    def holds(self, names: Names) -> bool:
        tables = (name for name in names if name.endswith(("pos_encoder.pe", "pos_embed.pe")))
        return any(names.size(name, 1) == self.count for name in tables)


_LAST_LEVEL = matching(r"(?:^|\.)up_blocks\.3\.")
_IP_KEYS = matching(r"^ip_adapter\.\d+\.to_k_ip\.weight$")

ROWS = (
    Row(
        "controlnet",
        _HINTED,
        by_context(
            Kind.CONTROLNET,
            "it has the zero convolutions or the hint network of a ControlNet",
            ("attn2.to_k.weight", "attn2.to_k.down"),
            bases=_CONTROLLED,
            variants=_CONTROL_VARIANTS,
        ),
        denoisers.NAMES | {"adapter"},
    ),
    Row(
        "controlnet-lllite",
        has_prefix("lllite_unet_"),
        named(
            Kind.CONTROLNET,
            "modules named lllite_unet_, as in ControlNet-LLLite",
            bases=(("sdxl", matching(r"^lllite_unet_\w+_transformer_blocks_[2-9]_")),),
            variants=(("lllite", both()),),
        ),
    ),
    Row(
        "t2i-adapter",
        either(
            has_all("body.0.in_conv.weight"),
            has_all("conv_in.weight", "body.0.block1.weight"),
            has_all("adapter.body.0.resnets.0.block1.weight"),
        ),
        named(
            Kind.T2I_ADAPTER,
            "body.0 is built as in a T2I-Adapter",
            # The hint picture is folded 8 or 16 times: 1 or 3 channels times the square of that.
            bases=(
                ("sdxl", size("conv_in.weight", 1, 256, 768)),
                ("sdxl", size("adapter.conv_in.weight", 1, 256, 768)),
                ("sdxl", size("body.0.in_conv.weight", 1, 256, 768)),
                ("sd-1", size("conv_in.weight", 1, 64, 192)),
                ("sd-1", size("adapter.conv_in.weight", 1, 64, 192)),
                ("sd-1", size("body.0.in_conv.weight", 1, 64, 192)),
            ),
            variants=(("light", has_any("body.0.in_conv.weight")),),
        ),
    ),
    Row(
        "ip-adapter",
        both(has_prefix("image_proj."), _IP_KEYS),
        by_context(
            Kind.IP_ADAPTER,
            "image_proj.* beside ip_adapter.*",
            ("to_k_ip.weight",),
            bases=(("flux", size("ip_adapter.0.to_k_ip.weight", 0, 3072)),),
            variants=(
                ("instant-id", size("image_proj.proj_in.weight", 1, 512)),
                ("face-id", matching(r"^ip_adapter\.\d+\.to_q_lora\.")),
                ("plus", has_any("image_proj.latents")),
            ),
        ),
        frozenset({"adapter"}),
    ),
    Row(
        "ip-adapter-flux",
        matching(r"^double_blocks\.\d+\.processor\.ip_adapter_double_stream_k_proj\.weight$"),
        named(Kind.IP_ADAPTER, "image keys for the double blocks of Flux (XLabs)", base=Base.FLUX),
    ),
    Row(
        "ip-adapter-identity",
        either(
            has_prefix("id_adapter.", "pulid_ca."),
            both(has_prefix("id_encoder."), has_prefix("lora_weights.")),
        ),
        named(
            Kind.IP_ADAPTER,
            "an encoder of faces beside attention or LoRA weights",
            bases=(("sdxl", has_prefix("lora_weights.")),),
            variants=(
                ("photomaker", has_prefix("id_encoder.")),
                ("pulid", has_prefix("id_adapter.", "pulid_ca.")),
            ),
        ),
        frozenset({"adapter"}),
    ),
    Row(
        "motion-module",
        both(
            matching(r"motion_modules\.\d+\.(?:temporal_transformer|transformer_blocks)\."),
            no(has_prefix("conv_in.")),
        ),
        named(
            Kind.MOTION_MODULE,
            "temporal transformers, as in AnimateDiff",
            bases=(
                ("sd-1", _LAST_LEVEL),
                ("sdxl", matching(r"(?:^|\.)up_blocks\.2\.motion_modules\.")),
            ),
            variants=(
                ("motion-lora", matching(r"lora")),
                ("v2", matching(r"(?:^|\.)mid_block\.motion_modules\.")),
                ("v1", _Frames(24)),
                ("v3", _Frames(32)),
            ),
        ),
        frozenset({"adapter"}),
    ),
)
