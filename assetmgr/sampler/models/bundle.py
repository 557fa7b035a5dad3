"""A state dict becomes networks: diffusers' UNet and VAE, transformers' CLIP text encoder.

Nothing is initialised, downloaded or guessed; see `networks` and, for SD3 and Flux, `flow_bundle`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch

from assetmgr.sampler.adapters.patching import Patch, Spares, patched
from assetmgr.sampler.models.asked_prediction import with_asked_prediction
from assetmgr.sampler.models.families import FAMILIES, Encoding, Family, family_of
from assetmgr.sampler.models.networks import (
    Incomplete,
    Part,
    built,
    decoder_alone,
    fill,
    latent_factor,
    require_complete,
)
from converters.bases import Base
from converters.identify import Identity, identify
from converters.layouts import component, component_of, vae_to_diffusers
from converters.layouts.components import TEXT_ENCODER, UNET, VAE
from converters.layouts.edm import edm_of, latent_statistics
from converters.layouts.pipeline import FIRST_ENCODER, to_components
from converters.progress import Progress
from converters.statedict import StateDict
from converters.transform.quantised_weights import unscaled


@dataclass(frozen=True, slots=True)
class Bundle:
    """A whole checkpoint, ready to render; its text encoders are in the order of the family.

    `unet` is the denoiser of whatever making, `prose` the T5 encoder of SD3 and Flux. `spares` is
    memory that changes of the networks use in turn. `is_asked`: the prediction in the identity is
    the UNet's own word.
    """

    state_dict: StateDict
    identity: Identity
    unet: Part
    vae: Part
    text_encoders: tuple[Part, ...]
    prose: Part | None = None
    spares: Spares = field(default_factory=dict, compare=False)
    is_asked: bool = False

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

    def patched(self, changed: StateDict) -> AbstractContextManager[Patch]:
        """Render as if the file held `changed`; see `patching.patched`."""
        return patched(self.parts, self.state_dict, changed, self.spares)


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
    parts = to_components(sd, identity.base).parts
    planned = {name: _planned(parts[name], identity.base, name) for name in names}
    require_complete(planned)
    progress.stage("load", sum(part.mapped.nbytes for part in planned.values()))
    for part in planned.values():
        fill(part, device, dtype, progress)
    encoders = tuple(planned[use.component] for use in family.encoders)
    planned[VAE].network.register_to_config(**latent_statistics(edm_of(sd)))
    asked = with_asked_prediction(identity, planned[UNET].network)
    is_asked = asked is not identity
    return Bundle(sd, asked, planned[UNET], planned[VAE], encoders, is_asked=is_asked)


def load_vae(
    sd: StateDict, base: Base, device: torch.device, dtype: torch.dtype, progress: Progress
) -> Any:
    """The autoencoder of a VAE file or of a checkpoint, for latents of a family.

    Raises Incomplete.
    """
    part = decoder_alone(built(vae_to_diffusers(sd), base, VAE, vae_to_diffusers))
    require_complete({VAE: part})
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


def _planned(part: StateDict, base: Base, name: str) -> Part:
    def to_network_names(state: StateDict) -> StateDict:
        return _as_built(name, to_components(state, base).parts[name])

    return built(_as_built(name, part), base, name, to_network_names)


def _as_built(name: str, part: StateDict) -> StateDict:
    """CLIPTextModel names its tensors without the prefix that its sibling with projection keeps."""
    if name != FIRST_ENCODER:
        return part
    return part.rename(lambda tensor: tensor.removeprefix("text_model."))
