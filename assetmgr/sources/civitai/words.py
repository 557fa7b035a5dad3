"""Our words for kinds, bases, orders and times -> those of Civitai.

Source: the site's own code, `civitai/civitai` `packages/civitai-db-schema/src/enums.ts` and
`src/server/common/constants.ts`.
"""

from __future__ import annotations

SORTS = {
    "rated": "Highest Rated",
    "downloads": "Most Downloaded",
    "likes": "Most Liked",
    "discussed": "Most Discussed",
    "collected": "Most Collected",
    "images": "Most Images",
    "newest": "Newest",
    "oldest": "Oldest",
}
"""Our words for orders -> the site's."""

TYPES = {
    "checkpoint": ("Checkpoint",),
    "lora": ("LORA", "LoCon", "DoRA"),
    "embedding": ("TextualInversion",),
    "hypernetwork": ("Hypernetwork",),
    "vae": ("VAE",),
    "controlnet": ("Controlnet",),
    "upscaler": ("Upscaler",),
    "motion-module": ("MotionModule",),
    "text-encoder": ("TextEncoder", "CLIP"),
    "diffusion-model": ("UNet",),
    "clip-vision": ("CLIPVision",),
}
"""Kind -> the site's types."""

BASES = {
    "sd-1": ("SD 1.4", "SD 1.5", "SD 1.5 LCM", "SD 1.5 Hyper"),
    "sd-2": ("SD 2.0", "SD 2.0 768", "SD 2.1", "SD 2.1 768", "SD 2.1 Unclip"),
    "sdxl": (
        "SDXL 0.9",
        "SDXL 1.0",
        "SDXL 1.0 LCM",
        "SDXL Turbo",
        "SDXL Lightning",
        "SDXL Hyper",
        "SDXL Distilled",
        "Pony",
        "Illustrious",
        "NoobAI",
    ),
    "sd-3": ("SD 3", "SD 3.5", "SD 3.5 Medium", "SD 3.5 Large", "SD 3.5 Large Turbo"),
    "flux": ("Flux.1 S", "Flux.1 D", "Flux.1 Krea", "Flux.1 Kontext"),
    "chroma": ("Chroma",),
    "auraflow": ("AuraFlow",),
    "pixart": ("PixArt a", "PixArt E"),
    "kolors": ("Kolors",),
    "hidream": ("HiDream",),
    "qwen-image": ("Qwen",),
    "z-image": ("ZImageTurbo", "ZImageBase"),
    "anima": ("Anima",),
    "krea-2": ("Krea 2",),
}
"""Base -> the site's texts; what is not here is asked for in the site's own words."""


PERIODS = {
    "day": "Day",
    "week": "Week",
    "month": "Month",
    "year": "Year",
    "all": "AllTime",
}
"""Our words for the time that an order counts -> the site's."""
