"""What a file can be, in the words of the command-line contract."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """What a file is."""

    CHECKPOINT = "checkpoint"
    LORA = "lora"
    EMBEDDING = "embedding"
    HYPERNETWORK = "hypernetwork"
    VAE = "vae"
    CONTROLNET = "controlnet"
    T2I_ADAPTER = "t2i-adapter"
    IP_ADAPTER = "ip-adapter"
    DIFFUSION_MODEL = "diffusion-model"
    TEXT_ENCODER = "text-encoder"
    CLIP_VISION = "clip-vision"
    UPSCALER = "upscaler"
    MOTION_MODULE = "motion-module"
    OTHER = "other"
    UNKNOWN = "unknown"
