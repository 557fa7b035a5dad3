"""A state dict becomes networks: diffusers' UNet and VAE, transformers' CLIP text encoder.

The networks are built without memory (on the meta device), configured by what the tensors' shapes
tell, and given the mapped tensors as they are; nothing is initialised, downloaded or guessed. What
a network wants and what the file has are compared before any tensor is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from assetmgr.sampler.families import FAMILIES, Encoding, Family, family_of
from assetmgr.sampler.tokenizer import VOCABULARY
from converters import compute
from converters.bases import Base
from converters.identify import Identity, identify
from converters.layouts import component, component_of, vae_to_diffusers
from converters.layouts.components import TEXT_ENCODER, UNET, VAE
from converters.layouts.edm import edm_of, latent_statistics
from converters.layouts.pipeline import FIRST_ENCODER, to_components
from converters.layouts.pipeline_configs import component_config
from converters.progress import Progress
from converters.statedict import LazyTensor, StateDict
from converters.transform.scaled_fp8 import unscaled


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
    """A whole checkpoint, ready to render; its text encoders are in the order of the family.

    `unet` is the denoiser of whatever making, `prose` the T5 encoder of SD3 and Flux. `broken`
    names the tensors of the file that hold NaN or infinities on the device.
    """

    state_dict: StateDict
    identity: Identity
    unet: Part
    vae: Part
    text_encoders: tuple[Part, ...]
    prose: Part | None = None
    broken: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[Part, ...]:
        """All networks."""
        own = (self.unet, self.vae, *self.text_encoders)
        return own if self.prose is None else (*own, self.prose)

    @property
    def family(self) -> Family:
        """What is particular to renders of its family."""
        return FAMILIES[self.identity.base]

    @property
    def encoders(self) -> tuple[tuple[Any, Encoding], ...]:
        """The text encoders' networks with how their outputs are used."""
        networks = (part.network for part in self.text_encoders)
        return tuple(zip(networks, self.family.encoders, strict=True))

    @property
    def latent_factor(self) -> int:
        """Pixels of one latent along an axis (8 for all Stable Diffusions)."""
        return latent_factor(self.vae.network)

    @contextmanager
    def patched(self, changed: StateDict) -> Iterator[Patch]:
        """Render as if the file held `changed`, a state dict derived from this one.

        Only tensors whose source differs are computed and loaded; the originals are set aside and
        put back as they were, so nothing of the change remains.
        """
        patch = Patch([])
        try:
            with _threads_kept():
                for parameter, tensor in self._changed(changed):
                    patch.originals.append((parameter, parameter.data))
                    parameter.data = _loaded(tensor, parameter.device, parameter.dtype)
            yield patch
        finally:
            for parameter, original in patch.originals:
                parameter.data = original.to(parameter.dtype)  # of a VAE that had to be widened

    def _changed(self, changed: StateDict) -> Iterator[tuple[torch.nn.Parameter, LazyTensor]]:
        for part in self.parts:
            parameters = dict(part.network.named_parameters())
            for name, tensor in part.to_network_names(changed).items():
                if tensor.source != part.mapped[name].source:
                    yield parameters[name], tensor


@dataclass(frozen=True, slots=True)
class Patch:
    """Changed parameters, each with its original value."""

    originals: list[tuple[torch.nn.Parameter, torch.Tensor]]

    @contextmanager
    def halved(self) -> Iterator[None]:
        """Render half way between the originals and the change."""
        whole = [(parameter, parameter.data) for parameter, _ in self.originals]
        try:
            for parameter, original in self.originals:
                middle = torch.lerp(original.float(), parameter.data.float(), 0.5)
                parameter.data = middle.to(parameter.dtype)
            yield
        finally:
            for parameter, changed in whole:
                parameter.data = changed


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
    """The networks of a checkpoint in one file.

    Raises UnsupportedFile for a family or variant that is not rendered yet, Incomplete with every
    missing and unexpected name before anything is read.
    """
    identity, sd = identify(sd), unscaled(sd)
    family = family_of(identity)
    names = (UNET, VAE, *(use.component for use in family.encoders))
    _require_components(sd, family)
    planned = {name: _planned(sd, identity.base, name) for name in names}
    require_complete(list(planned.values()))
    progress.stage("load", sum(part.mapped.nbytes for part in planned.values()))
    broken = [name for part in planned.values() for name in fill(part, device, dtype, progress)]
    encoders = tuple(planned[use.component] for use in family.encoders)
    planned[VAE].network.register_to_config(**latent_statistics(edm_of(sd)))
    return Bundle(sd, identity, planned[UNET], planned[VAE], encoders, broken=tuple(broken))


def load_vae(
    sd: StateDict, base: Base, device: torch.device, dtype: torch.dtype, progress: Progress
) -> Any:
    """The autoencoder of a VAE file or of a checkpoint, for latents of a family.

    Raises Incomplete.
    """
    part = _part(vae_to_diffusers(sd), base, VAE, vae_to_diffusers)
    require_complete([part])
    progress.stage("load", part.mapped.nbytes)
    fill(part, device, dtype, progress)
    return part.network


def outside(sd: StateDict) -> tuple[str, ...]:
    """Tensors of a checkpoint that belong to no network of a render (EMA copies, buffers)."""
    return tuple(name for name in sd if component_of(name) not in (UNET, VAE, TEXT_ENCODER))


def _require_components(sd: StateDict, family: Family) -> None:
    absent = [name for name in (UNET, VAE) if not len(component(sd, name))]
    if not len(component(sd, TEXT_ENCODER)):
        absent += ["text encoder"] if len(family.encoders) == 1 else ["text encoders"]
    if absent:
        raise Incomplete(tuple(f"the whole {name}" for name in absent))


def _planned(sd: StateDict, base: Base, name: str) -> Part:
    def to_network_names(state: StateDict) -> StateDict:
        part = to_components(state, base).parts[name]
        return _as_built(name, part)

    return _part(to_network_names(sd), base, name, to_network_names)


def _part(
    mapped: StateDict, base: Base, name: str, to_network_names: Callable[[StateDict], StateDict]
) -> Part:
    with torch.device("meta"):
        network = _BUILDERS.get(name, _build_text_encoder)(component_config(base, name, mapped))
    network.requires_grad_(requires_grad=False).eval()
    return Part(network, mapped, to_network_names)


def _as_built(name: str, part: StateDict) -> StateDict:
    """CLIPTextModel names its tensors without the prefix that its sibling with projection keeps."""
    if name != FIRST_ENCODER:
        return part
    return part.rename(lambda tensor: tensor.removeprefix("text_model."))


def require_complete(parts: list[Part]) -> None:
    """Raises Incomplete unless every network finds exactly the tensors it wants."""
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
        missing += _unheld_ids(part)
    if missing or unexpected:
        raise Incomplete(tuple(missing), tuple(unexpected))


def _unheld_ids(part: Part) -> list[str]:
    """What a text encoder of CLIP has no token embeddings for, though prompts may hold it."""
    config = part.network.config
    rows = getattr(config, "vocab_size", VOCABULARY)
    if getattr(config, "model_type", "") != "clip_text_model" or rows >= VOCABULARY:
        return []
    ids, table = f"{rows} to {VOCABULARY - 1}", "token_embedding.weight"
    name = next(_name_in_file(t) for name, t in part.mapped.items() if name.endswith(table))
    return [f"token embeddings {ids} of the text encoder ({name})"]


def fill(
    part: Part, device: torch.device, dtype: torch.dtype, progress: Progress
) -> tuple[str, ...]:
    """Give a network its tensors, on a device and in a type.

    Returns the file's names of those that hold NaN or infinities there.
    """
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in part.mapped.items():
        tensors[name] = _loaded(tensor, device, dtype)
        progress.advance(tensor.nbytes)
    part.network.load_state_dict(tensors, assign=True, strict=True)
    _make_positions(part.network, device)
    return _broken(part, tensors)


def _broken(part: Part, tensors: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    """Names of what is not finite; the extremes of all are fetched from the device at once."""
    filled = {name: tensor for name, tensor in tensors.items() if tensor.numel()}
    if not filled:
        return ()
    extremes = torch.stack([torch.stack(torch.aminmax(each)).float() for each in filled.values()])
    finite = torch.isfinite(extremes).all(dim=1).tolist()
    names = (name for name, fine in zip(filled, finite, strict=True) if not fine)
    return tuple(dict.fromkeys(_name_in_file(part.mapped[name]) for name in names))


def _name_in_file(tensor: LazyTensor) -> str:
    return tensor.origin.rpartition(": ")[2]


def _loaded(tensor: LazyTensor, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    return compute.value(tensor).to(device, dtype)


def _make_positions(network: Any, device: torch.device) -> None:
    """Give the text encoder's position ids memory: the library keeps them out of state dicts."""
    embeddings = getattr(getattr(network, "text_model", network), "embeddings", None)
    if embeddings is not None:
        count = embeddings.position_embedding.num_embeddings
        embeddings.position_ids = torch.arange(count, device=device)[None]


def build_unet(config: Mapping[str, Any]) -> Any:
    """The UNet of a configuration as it stands in a pipeline's folder."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**_arguments(config))


def _build_vae(config: Mapping[str, Any]) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(**_arguments(config))


def _build_text_encoder(config: Mapping[str, Any]) -> Any:
    import transformers

    (name,) = config["architectures"]
    return getattr(transformers, name)(transformers.CLIPTextConfig(**_arguments(config)))


def _arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without what names the class."""
    told = ("architectures", "model_type")
    return {name: v for name, v in config.items() if name not in told and name[0] != "_"}


_BUILDERS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {UNET: build_unet, VAE: _build_vae}
"""Component -> how its network is built; all others are text encoders."""
