"""Neighbours of the main kinds, named where their tensors leave no doubt.

Sources: ComfyUI `comfy/model_detection.py`, `comfy/controlnet.py`, `comfy/sd.py`;
chaiNNer-org/spandrel (upscalers); tencent-ailab/IP-Adapter.
"""

from __future__ import annotations

from collections.abc import Callable

from converters.identify.conditions import both, either, has_all, has_any, has_prefix, matching, no
from converters.identify.counts import components
from converters.identify.identity import (
    BASE_OF_WIDTH,
    Base,
    Identity,
    Kind,
    Prediction,
)
from converters.identify.row import Row
from converters.layouts.components import OTHER, TEXT_ENCODER, UNET
from converters.statedict import StateDict

_Describe = Callable[[StateDict], Identity]


def _named(
    kind: Kind, base: Base, why: str, *, part: str = OTHER, layout: str | None = None
) -> _Describe:
    def describe(sd: StateDict) -> Identity:
        return Identity(
            kind,
            base,
            layout=layout,
            evidence=(why,),
            components=components(sd, lambda _: part),
        )

    return describe


def _by_context(kind: Kind, why: str, ending: str) -> _Describe:
    """The family by the text context of the first tensor with this ending."""

    def describe(sd: StateDict) -> Identity:
        found = ((n, t) for n, t in sd.items() if n.endswith(ending) and len(t.shape) == 2)
        name, tensor = next(found, ("", None))
        base = Base.UNKNOWN if tensor is None else BASE_OF_WIDTH.get(tensor.shape[1], Base.UNKNOWN)
        width = () if tensor is None else (f"{name} takes a context of width {tensor.shape[1]}",)
        return Identity(
            kind,
            base,
            evidence=(why, *width),
            components=components(sd, lambda _: OTHER),
        )

    return describe


def _transformer(base: Base, why: str) -> _Describe:
    """A transformer denoiser; with other components beside it, a checkpoint."""

    def describe(sd: StateDict) -> Identity:
        parts = components(sd)
        whole = any(part.name not in (UNET, OTHER) for part in parts)
        return Identity(
            Kind.CHECKPOINT if whole else Kind.DIFFUSION_MODEL,
            base,
            prediction=Prediction.FLOW,
            evidence=(why,),
            components=parts if whole else components(sd, lambda _: UNET),
        )

    return describe


_HEADS = ("model.diffusion_model.", "")


def _under_heads(*names: str) -> tuple[str, ...]:
    return tuple(head + name for head in _HEADS for name in names)


_FLUX_ATTENTION = has_any(*_under_heads("double_blocks.0.img_attn.norm.key_norm.scale"))
_NOT_FLUX_1 = has_any(
    *_under_heads(
        "double_stream_modulation_img.lin.weight",
        "distilled_guidance_layer.norms.0.scale",
        "double_blocks.0.img_mlp.gate_proj.weight",
    )
)

ROWS = (
    Row(
        "controlnet",
        either(
            has_prefix("control_model."),
            has_any("zero_convs.0.0.weight", "controlnet_cond_embedding.conv_in.weight"),
            has_any("lora_controlnet"),
        ),
        _by_context(
            Kind.CONTROLNET,
            "it has the zero convolutions or the hint network of a ControlNet",
            "attn2.to_k.weight",
        ),
        frozenset({"unet-ldm", "unet-diffusers", "checkpoint"}),
    ),
    Row(
        "t2i-adapter",
        either(
            has_all("body.0.in_conv.weight"),
            has_all("conv_in.weight", "body.0.block1.weight"),
            has_all("adapter.body.0.resnets.0.block1.weight"),
        ),
        _named(Kind.T2I_ADAPTER, Base.UNKNOWN, "body.0 is built as in a T2I-Adapter"),
    ),
    Row(
        "ip-adapter",
        both(has_prefix("image_proj."), matching(r"^ip_adapter\.\d+\.to_k_ip\.weight$")),
        _by_context(Kind.IP_ADAPTER, "image_proj.* beside ip_adapter.*", "to_k_ip.weight"),
        frozenset({"adapter"}),
    ),
    Row(
        "motion-module",
        both(matching(r"motion_modules\.\d+\.temporal_transformer\."), no(has_prefix("conv_in."))),
        _named(Kind.MOTION_MODULE, Base.UNKNOWN, "temporal transformers, as in AnimateDiff"),
        frozenset({"adapter"}),
    ),
    Row(
        "upscaler",
        either(
            has_all("conv_first.weight", "body.0.rdb1.conv1.weight"),
            has_all("model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"),
            has_all("conv_first.weight", "RRDB_trunk.0.RDB1.conv1.weight"),
            has_all("conv_first.weight", "layers.0.residual_group.blocks.0.norm1.weight"),
        ),
        _named(Kind.UPSCALER, Base.ANY, "residual dense or window-attention blocks of an upscaler"),
    ),
    Row(
        "text-encoder",
        both(
            matching(r"(?:^|\.)(?:text_model\.)?encoder\.layers\.0\.mlp\.fc1\.weight$"),
            matching(r"(?:^|\.)(?:text_model\.)?embeddings\.token_embedding\.weight$"),
            no(has_prefix("vision_model.", "visual.")),
        ),
        _named(
            Kind.TEXT_ENCODER,
            Base.UNKNOWN,
            "a CLIP text encoder; several families share it",
            part=TEXT_ENCODER,
            layout="hf-clip",
        ),
    ),
    Row(
        "clip-vision",
        both(
            either(
                has_any("vision_model.embeddings.patch_embedding.weight"),
                has_prefix("visual.transformer.resblocks."),
            ),
            no(has_prefix("text_model.", "token_embedding.", "transformer.resblocks.")),
        ),
        _named(Kind.CLIP_VISION, Base.ANY, "the image half of CLIP"),
    ),
    Row(
        "flux",
        both(
            _FLUX_ATTENTION,
            has_any(*_under_heads("guidance_in.in_layer.weight", "vector_in.in_layer.weight")),
            no(_NOT_FLUX_1),
        ),
        _transformer(Base.FLUX, "double_blocks with normalised keys, as in Flux.1"),
        frozenset({"vae", "text-encoder"}),
    ),
    Row(
        "sd-3",
        has_any(*_under_heads("joint_blocks.0.context_block.attn.qkv.weight")),
        _transformer(Base.SD3, "joint_blocks with a fused qkv, as in SD3"),
        frozenset({"vae", "text-encoder"}),
    ),
)
