"""A state dict becomes networks: diffusers' UNet and VAE, transformers' CLIP text encoder.

The networks are built without memory (on the meta device), configured by what the tensors' shapes
tell, and given the mapped tensors as they are; nothing is initialised, downloaded or guessed. What
a network wants and what the file has are compared before any tensor is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from converters import compute
from converters.layouts import (
    clip_config,
    clip_to_transformers,
    component,
    component_of,
    unet_config,
    unet_to_diffusers,
    vae_config,
    vae_to_diffusers,
)
from converters.progress import Progress
from converters.statedict import LazyTensor, StateDict


class Incomplete(Exception):
    """A network cannot be built: tensors are missing, superfluous or of another shape."""

    def __init__(self, missing: tuple[str, ...], unexpected: tuple[str, ...] = ()) -> None:
        counts = f"{len(missing)} tensors missing, {len(unexpected)} unexpected"
        super().__init__(f"{counts}: {', '.join((*missing, *unexpected)[:3])}")
        self.missing = missing
        self.unexpected = unexpected


@dataclass(frozen=True, slots=True)
class Part:
    """A network on its device, and how its tensors are found in a state dict of the same file."""

    network: Any
    mapped: StateDict
    to_network_names: Callable[[StateDict], StateDict]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A whole checkpoint, ready to render."""

    state_dict: StateDict
    unet: Part
    vae: Part
    text_encoder: Part

    @property
    def parts(self) -> tuple[Part, Part, Part]:
        """The three networks."""
        return self.unet, self.vae, self.text_encoder

    @property
    def latent_factor(self) -> int:
        """Pixels of one latent along an axis (8 for Stable Diffusion 1)."""
        return latent_factor(self.vae.network)

    @contextmanager
    def patched(self, changed: StateDict) -> Iterator[None]:
        """Render as if the file held `changed`, a state dict derived from this one.

        Only tensors whose source differs are computed and loaded; the originals are set aside and
        put back as they were, so nothing of the change remains.
        """
        originals: list[tuple[torch.nn.Parameter, torch.Tensor]] = []
        try:
            with _threads_kept():
                for parameter, tensor in self._changed(changed):
                    originals.append((parameter, parameter.data))
                    parameter.data = _loaded(tensor, parameter.device, parameter.dtype)
            yield
        finally:
            for parameter, original in originals:
                parameter.data = original

    def _changed(self, changed: StateDict) -> Iterator[tuple[torch.nn.Parameter, LazyTensor]]:
        for part in self.parts:
            parameters = dict(part.network.named_parameters())
            for name, tensor in part.to_network_names(changed).items():
                if tensor.source is not part.mapped[name].source:
                    yield parameters[name], tensor


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Computing lazy tensors leaves torch with one thread; a render wants all it had."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def latent_factor(vae: Any) -> int:
    """How many pixels of a picture one latent stands for, along an axis."""
    return int(2 ** (len(vae.config.block_out_channels) - 1))


def load_bundle(
    sd: StateDict, device: torch.device, dtype: torch.dtype, progress: Progress
) -> Bundle:
    """The networks of a Stable Diffusion 1 checkpoint.

    Raises Incomplete with every missing and unexpected name before anything is read.
    """
    absent = tuple(name for name in _BUILDERS if not len(component(sd, name)))
    if absent:
        raise Incomplete(tuple(f"the whole {name.replace('_', ' ')}" for name in absent))
    planned = {name: _planned(sd, name) for name in _BUILDERS}
    _require_complete(list(planned.values()))
    progress.stage("load", sum(part.mapped.nbytes for part in planned.values()))
    for part in planned.values():
        _fill(part, device, dtype, progress)
    return Bundle(sd, planned["unet"], planned["vae"], planned["text_encoder"])


def load_vae(sd: StateDict, device: torch.device, dtype: torch.dtype, progress: Progress) -> Any:
    """The autoencoder of a VAE file or of a checkpoint. Raises Incomplete."""
    part = _planned(sd, "vae")
    _require_complete([part])
    progress.stage("load", part.mapped.nbytes)
    _fill(part, device, dtype, progress)
    return part.network


def outside(sd: StateDict) -> tuple[str, ...]:
    """Tensors of a checkpoint that belong to no network of a render (EMA copies, buffers)."""
    return tuple(name for name in sd if component_of(name) not in _BUILDERS)


def non_finite_names(sd: StateDict) -> tuple[str, ...]:
    """Names of the tensors that hold NaN or infinities; reads everything."""
    return tuple(
        name
        for name, tensor in sd.items()
        if tensor.dtype.is_float and not torch.isfinite(compute.value(tensor).float()).all()
    )


def _planned(sd: StateDict, name: str) -> Part:
    build, to_network_names = _BUILDERS[name]
    with torch.device("meta"):
        network = build(sd)
    network.requires_grad_(requires_grad=False).eval()
    return Part(network, to_network_names(sd), to_network_names)


def _require_complete(parts: list[Part]) -> None:
    missing: list[str] = []
    unexpected: list[str] = []
    for part in parts:
        wanted = {name: tuple(t.shape) for name, t in part.network.state_dict().items()}
        missing += sorted(wanted.keys() - part.mapped.keys())
        unexpected += sorted(part.mapped.keys() - wanted.keys())
        unexpected += [
            f"{name} {list(tensor.shape)} instead of {list(wanted[name])}"
            for name, tensor in part.mapped.items()
            if name in wanted and tensor.shape != wanted[name]
        ]
    if missing or unexpected:
        raise Incomplete(tuple(missing), tuple(unexpected))


def _fill(part: Part, device: torch.device, dtype: torch.dtype, progress: Progress) -> None:
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in part.mapped.items():
        tensors[name] = _loaded(tensor, device, dtype)
        progress.advance(tensor.nbytes)
    part.network.load_state_dict(tensors, assign=True, strict=True)
    _make_positions(part.network, device)


def _loaded(tensor: LazyTensor, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    return compute.value(tensor).to(device, dtype)


def _make_positions(network: Any, device: torch.device) -> None:
    """Give the text encoder's position ids memory: the library keeps them out of state dicts."""
    embeddings = getattr(network, "embeddings", None)
    if embeddings is not None:
        count = embeddings.position_embedding.num_embeddings
        embeddings.position_ids = torch.arange(count, device=device)[None]


def _build_unet(sd: StateDict) -> Any:
    from diffusers import UNet2DConditionModel

    config = unet_config(sd)
    down = ["CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in config.attention]
    up = ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(config.attention)]
    return UNet2DConditionModel(
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        cross_attention_dim=config.cross_attention_dim,
        attention_head_dim=config.heads,  # despite its name the number of heads
        norm_num_groups=config.norm_groups,
        use_linear_projection=config.linear_projection,
    )


def _build_vae(sd: StateDict) -> Any:
    from diffusers import AutoencoderKL

    config = vae_config(sd)
    levels = len(config.block_out_channels)
    return AutoencoderKL(
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        latent_channels=config.latent_channels,
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        norm_num_groups=config.norm_groups,
        scaling_factor=config.scaling_factor,
        use_quant_conv=config.quant_conv,
        use_post_quant_conv=config.post_quant_conv,
        mid_block_add_attention=config.middle_attention,
    )


def _build_text_encoder(sd: StateDict) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    config = clip_config(sd)
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=config.vocabulary,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            max_position_embeddings=config.positions,
            hidden_act=config.activation,
        )
    )


_BUILDERS: dict[str, tuple[Callable[[StateDict], Any], Callable[[StateDict], StateDict]]] = {
    "unet": (_build_unet, unet_to_diffusers),
    "vae": (_build_vae, vae_to_diffusers),
    "text_encoder": (_build_text_encoder, clip_to_transformers),
}
"""Component -> how its network is built, and how its tensors are renamed for it."""
