"""How tensors are named and shaped: bijective maps between layouts, and configurations from shapes.

Every map is derived from the tensors present and reads none of them.
"""

from converters.layouts.components import component, component_of
from converters.layouts.sd_unet import UNetConfig, unet_config, unet_to_diffusers, unet_to_ldm
from converters.layouts.sd_vae import VaeConfig, vae_config, vae_to_diffusers, vae_to_ldm
from converters.layouts.text_encoders import (
    ClipConfig,
    clip_config,
    clip_to_ldm,
    clip_to_transformers,
)

__all__ = [
    "ClipConfig",
    "UNetConfig",
    "VaeConfig",
    "clip_config",
    "clip_to_ldm",
    "clip_to_transformers",
    "component",
    "component_of",
    "unet_config",
    "unet_to_diffusers",
    "unet_to_ldm",
    "vae_config",
    "vae_to_diffusers",
    "vae_to_ldm",
]
