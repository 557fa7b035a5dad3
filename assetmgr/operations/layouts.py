"""In which folder each program looks for which kind of model: one row per program.

Folders are relative to the program's own folder and written with slashes. Sources: the programs'
own code, as `modules/paths_internal.py` and `modules/cmd_args.py` of AUTOMATIC1111/
stable-diffusion-webui and lllyasviel/stable-diffusion-webui-forge, `modules/ui_definitions.py` of
vladmandic/sdnext, `folder_paths.py` of Comfy-Org/ComfyUI, `invokeai/app/services/model_install` of
invoke-ai/InvokeAI, `modules/config.py` of lllyasviel/Fooocus, `SharedFolderType.cs` of
LykosAI/StabilityMatrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from converters.kinds import Kind

_TORCH = frozenset({".ckpt", ".pt", ".safetensors"})
_A1111: dict[str, frozenset[str]] = {
    Kind.CHECKPOINT: frozenset({".ckpt", ".safetensors"}),
    Kind.VAE: _TORCH,
    Kind.LORA: _TORCH,
    Kind.EMBEDDING: frozenset({".pt", ".bin", ".safetensors", ".png", ".webp", ".jxl", ".avif"}),
    Kind.HYPERNETWORK: frozenset({".pt"}),
}
_COMFYUI = frozenset(
    {".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft", ".gguf"}
)
_INVOKEAI = frozenset({".ckpt", ".safetensors", ".bin", ".pt", ".pth", ".gguf"})
_MATRIX = frozenset({".safetensors", ".pt", ".ckpt", ".pth", ".bin", ".sft", ".gguf"})


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a program has its models.

    `folders` has the kinds that it can use; `{base}` in one stands for the model family, `any`
    where that is not known. `pipelines` is the folder for diffusers folders, None where they are
    not read. `suffixes` are the endings read of every kind but those in `suffixes_of`; empty means
    any. `prefixes` are folders that the others may lie in: the first that is there counts, else the
    first. `approximations` is the folder of small stand-ins for a VAE (TAESD), None where they lie
    with the others.
    """

    title: str
    folders: Mapping[str, str]
    pipelines: str | None = None
    suffixes: frozenset[str] = frozenset()
    suffixes_of: Mapping[str, frozenset[str]] = field(default_factory=dict)
    prefixes: tuple[str, ...] = ("",)
    approximations: str | None = None

    def folder(
        self, kind: str, base: str, *, is_pipeline: bool, variant: str | None = None
    ) -> str | None:
        """Where a model belongs, relative to the prefix; None for what the program cannot use."""
        named = self.pipelines if is_pipeline else self.folders.get(kind)
        if kind == Kind.VAE and variant in _STAND_INS:
            named = self.approximations or named
        family = "any" if base == "unknown" else base
        return None if named is None else named.format(base=family)

    def reads(self, kind: str, name: str) -> bool:
        """Whether the program looks at files of this name."""
        suffixes = self.suffixes_of.get(kind, self.suffixes)
        return not suffixes or PurePath(name).suffix.lower() in suffixes

    def prefix(self, directory: Path) -> str:
        """What comes before the folders in this installation."""
        there = (prefix for prefix in self.prefixes if Path(directory, prefix).is_dir())
        return next(there, self.prefixes[0])


_STAND_INS = ("taesd", "taehv")
"""Variants of VAEs that programs keep apart."""

_WEBUI: dict[str, str] = {
    Kind.CHECKPOINT: "models/Stable-diffusion",
    Kind.VAE: "models/VAE",
    Kind.LORA: "models/Lora",
    Kind.EMBEDDING: "embeddings",
    Kind.HYPERNETWORK: "models/hypernetworks",
    Kind.CONTROLNET: "models/ControlNet",
    Kind.T2I_ADAPTER: "models/ControlNet",
    Kind.IP_ADAPTER: "models/ControlNet",
    Kind.UPSCALER: "models/ESRGAN",
    Kind.MOTION_MODULE: "models/animatediff",
}

LAYOUTS: Mapping[str, Layout] = {
    "comfyui": Layout(
        "ComfyUI",
        {
            Kind.CHECKPOINT: "models/checkpoints",
            Kind.DIFFUSION_MODEL: "models/diffusion_models",
            Kind.VAE: "models/vae",
            Kind.LORA: "models/loras",
            Kind.EMBEDDING: "models/embeddings",
            Kind.HYPERNETWORK: "models/hypernetworks",
            Kind.TEXT_ENCODER: "models/text_encoders",
            Kind.CLIP_VISION: "models/clip_vision",
            Kind.CONTROLNET: "models/controlnet",
            Kind.T2I_ADAPTER: "models/t2i_adapter",
            Kind.IP_ADAPTER: "models/ipadapter",
            Kind.UPSCALER: "models/upscale_models",
            Kind.MOTION_MODULE: "models/animatediff_models",
        },
        pipelines="models/diffusers",
        suffixes=_COMFYUI,
        approximations="models/vae_approx",
    ),
    "a1111": Layout(
        "AUTOMATIC1111", _WEBUI, suffixes_of=_A1111, approximations="models/VAE-approx"
    ),
    "forge": Layout(
        "Forge",
        _WEBUI
        | {
            Kind.DIFFUSION_MODEL: "models/Stable-diffusion",
            Kind.TEXT_ENCODER: "models/text_encoder",
        },
        suffixes_of=_A1111
        | {
            Kind.CHECKPOINT: frozenset({".ckpt", ".safetensors", ".gguf"}),
            Kind.DIFFUSION_MODEL: frozenset({".ckpt", ".safetensors", ".gguf"}),
        },
        approximations="models/VAE-approx",
    ),
    "sdnext": Layout(
        "SD.Next",
        {
            Kind.CHECKPOINT: "models/Stable-diffusion",
            Kind.DIFFUSION_MODEL: "models/UNET",
            Kind.VAE: "models/VAE",
            Kind.LORA: "models/Lora",
            Kind.EMBEDDING: "models/embeddings",
            Kind.HYPERNETWORK: "models/hypernetworks",
            Kind.TEXT_ENCODER: "models/Text-encoder",
            Kind.CONTROLNET: "models/control",
            Kind.T2I_ADAPTER: "models/control",
            Kind.UPSCALER: "models/ESRGAN",
        },
        pipelines="models/Diffusers",
    ),
    "invokeai": Layout(
        "InvokeAI",
        {
            Kind.CHECKPOINT: "models/{base}/main",
            Kind.DIFFUSION_MODEL: "models/{base}/main",
            Kind.VAE: "models/{base}/vae",
            Kind.LORA: "models/{base}/lora",
            Kind.EMBEDDING: "models/{base}/embedding",
            Kind.CONTROLNET: "models/{base}/controlnet",
            Kind.T2I_ADAPTER: "models/{base}/t2i_adapter",
            Kind.IP_ADAPTER: "models/{base}/ip_adapter",
            Kind.CLIP_VISION: "models/any/clip_vision",
            Kind.UPSCALER: "models/any/spandrel_image_to_image",
        },
        pipelines="models/{base}/main",
        suffixes=_INVOKEAI,
    ),
    "fooocus": Layout(
        "Fooocus",
        {
            Kind.CHECKPOINT: "models/checkpoints",
            Kind.VAE: "models/vae",
            Kind.LORA: "models/loras",
            Kind.EMBEDDING: "models/embeddings",
            Kind.CLIP_VISION: "models/clip_vision",
            Kind.CONTROLNET: "models/controlnet",
            Kind.IP_ADAPTER: "models/controlnet",
            Kind.UPSCALER: "models/upscale_models",
        },
        approximations="models/vae_approx",
    ),
    "stabilitymatrix": Layout(
        "StabilityMatrix",
        {
            Kind.CHECKPOINT: "StableDiffusion",
            Kind.DIFFUSION_MODEL: "DiffusionModels",
            Kind.VAE: "VAE",
            Kind.LORA: "Lora",
            Kind.EMBEDDING: "Embeddings",
            Kind.HYPERNETWORK: "Hypernetwork",
            Kind.TEXT_ENCODER: "TextEncoders",
            Kind.CLIP_VISION: "ClipVision",
            Kind.CONTROLNET: "ControlNet",
            Kind.T2I_ADAPTER: "T2IAdapter",
            Kind.IP_ADAPTER: "IpAdapter",
            Kind.UPSCALER: "ESRGAN",
        },
        pipelines="Diffusers",
        suffixes=_MATRIX,
        prefixes=("Data/Models", "Models"),
        approximations="ApproxVAE",
    ),
    "kohya": Layout(
        "kohya",
        {
            Kind.CHECKPOINT: "models",
            Kind.DIFFUSION_MODEL: "models",
            Kind.VAE: "models",
            Kind.TEXT_ENCODER: "models",
            Kind.LORA: "outputs",
        },
        pipelines="models",
    ),
}
"""What users call a program -> where it has its models."""
