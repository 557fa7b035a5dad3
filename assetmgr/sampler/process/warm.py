"""What a sampler keeps between jobs: the networks of the last base, and its renders alone.

These renders are the references that effects are measured against. A base is recognised by its file
as it was, the device, the precision, and the files that it borrowed components of.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import torch

from assetmgr.sampler.models.bundle import Bundle, load_bundle, outside
from assetmgr.sampler.models.families import family_of
from assetmgr.sampler.models.flow_bundle import joined, load_flow, without_t5
from assetmgr.sampler.models.networks import Incomplete, non_finite
from assetmgr.sampler.process.jobs import ModelFile, RuntimeAdapter
from assetmgr.sampler.prompts.prompt import Conditioning, Tokenize
from assetmgr.sampler.prompts.t5_tokenizer import T5Tokenizer, load_t5_tokenizer
from assetmgr.sampler.prompts.tokenizer import load_tokenizer
from assetmgr.sampler.rendering.memory import release_cache
from assetmgr.sampler.rendering.render import Picture, Sampling
from assetmgr.sampler.rendering.replay import Replay
from converters.bytesource import Fingerprint
from converters.containers import Container, Model, open_model
from converters.errors import FileMissing
from converters.identify import identify
from converters.identify.beside import with_prediction_beside
from converters.layouts.flow_parts import NEEDED, T5, T5_TOKENIZER
from converters.layouts.pipeline import pipeline_parts, to_single_file
from converters.progress import Progress
from converters.statedict import StateDict

KEPT = 32
"""Renders of the base that are kept, 3 MB each at 512x512, and encodings of prompts, 1 MB each."""

Fingerprints = tuple[Fingerprint, ...]
"""All that a model is read from, as it was."""

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Place:
    """What a loaded bundle answers to: the file as it was, and where it was loaded to."""

    path: str
    fingerprints: Fingerprints
    device: torch.device
    dtype: torch.dtype
    companions: tuple[tuple[str, Fingerprints], ...] = ()


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a picture depends on beside the networks."""

    prompt: str
    negative: str
    sampling: Sampling
    clip_skip: int = 1
    adapters: tuple[RuntimeAdapter, ...] = ()
    rounded: str | None = None


Encoded = tuple[str, str, int]
"""Prompt, negative prompt and clip skip, which an encoding by the base alone depends on."""


@dataclass
class Warm:
    """A loaded base and its pictures without any adapter."""

    place: Place
    bundle: Bundle
    of_t5: T5Tokenizer | None = None
    references: dict[Conditions, Picture] = field(default_factory=dict)
    encodings: dict[Encoded, tuple[Conditioning, Conditioning]] = field(default_factory=dict)

    @cached_property
    def _encoders(self) -> tuple[tuple[torch.nn.Parameter, int], ...]:
        """All parameters of the text encoders, and where their values in the file lie."""
        networks = (part.network for part in self.bundle.text_encoders)
        return tuple((p, p.data_ptr()) for network in networks for p in network.parameters())

    @property
    def reads_as_stored(self) -> bool:
        """Whether the text encoders have the values of the file: nothing else lies there ever."""
        return all(parameter.data_ptr() == place for parameter, place in self._encoders)

    @cached_property
    def broken(self) -> tuple[str, ...]:
        """The file's tensors that hold NaN or infinities as they were loaded.

        To be asked first while no subject is in effect: what is in the networks is looked at.
        """
        found = (name for part in self.bundle.parts for name in non_finite(part))
        return tuple(dict.fromkeys(found))

    @cached_property
    def weights(self) -> int:
        """How many the UNet has."""
        return sum(parameter.numel() for parameter in self.bundle.unet.network.parameters())

    def places(self, sampling: Sampling) -> int:
        """How many a picture's latents have."""
        return sampling.width * sampling.height // self.bundle.latent_factor**2

    @cached_property
    def replay(self) -> Replay:
        """What calls the UNet of a Stable Diffusion again and again."""
        return Replay(self.bundle.unet.network)

    def keep(self, conditions: Conditions, picture: Picture) -> None:
        """Remember a picture."""
        _keep(self.references, conditions, picture)

    def keep_encoding(self, key: Encoded, pair: tuple[Conditioning, Conditioning]) -> None:
        """Remember what the text encoders make of prompts, as they are in the file."""
        _keep(self.encodings, key, pair)


def _keep(kept: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    """Add to what is kept, and forget the oldest when there is much."""
    if len(kept) >= KEPT:
        del kept[next(iter(kept))]
    kept[key] = value


class Kept:
    """What a sampler keeps from one job to the next.

    `warm` is the last base, `overflowing` are those that fp16 is too narrow for, as they were.
    """

    def __init__(self) -> None:
        tokenizer = load_tokenizer()
        self.tokens_of: Tokenize = partial(tokenizer.encode, add_special_tokens=False)
        self.warm: Warm | None = None
        self.overflowing: set[Fingerprints] = set()

    def forget(self) -> None:
        """Release the networks."""
        self.warm = None
        release_cache()


def place_of(
    checkpoint: ModelFile,
    companions: Sequence[ModelFile],
    device: torch.device,
    dtype: torch.dtype,
) -> Place:
    """What a bundle loaded now would answer to. Raises FileMissing."""
    lent = tuple((each.path, fingerprints(each.path)) for each in companions)
    return Place(checkpoint.path, fingerprints(checkpoint.path), device, dtype, lent)


def load_warm(place: Place, companions: Sequence[ModelFile], progress: Progress) -> Warm:
    """Build the networks of a checkpoint, with what it borrows of `companions`.

    Raises Incomplete, and the errors of files that cannot be read.
    """
    model = open_model(place.path)
    identity = identify(model.state_dict)
    if not family_of(identity).flow:
        return Warm(place, load_bundle(single_file(model), place.device, place.dtype, progress))
    files = {each.kind: each.path for each in companions}
    of_t5 = load_t5_tokenizer(files.pop(T5_TOKENIZER)) if T5_TOKENIZER in files else None
    lent = {role: open_model(path).state_dict for role, path in files.items()}
    sd = joined(model.state_dict, identity.base, lent)
    if of_t5 is None and T5 in NEEDED[identity.base]:
        raise Incomplete((f"the whole {T5_TOKENIZER}",))
    told = without_t5(sd) if of_t5 is None else sd
    return Warm(place, load_flow(told, identity, place.device, place.dtype, progress), of_t5)


def account_of(warm: Warm, companions: Sequence[ModelFile]) -> str:
    """What a completely loaded checkpoint consists of, in words."""
    sd, bundle = warm.bundle.state_dict, warm.bundle
    if bundle.family.flow:
        lent = ", ".join(f"{each.kind} of {Path(each.path).name}" for each in companions)
        note = f"all {len(sd)} tensors of transformer, VAE and text encoders"
        note += f" ({lent})" if lent else ""
        without = bundle.prose is None or warm.of_t5 is None
        return f"{note}; without T5 or its tokenizer, zeros in its place" if without else note
    extra = outside(sd)
    note = f"all {len(sd) - len(extra)} tensors of UNet, VAE and text encoder"
    if bundle.is_asked:
        note += f"; it predicts {bundle.identity.prediction}, by what it answers"
    return f"{note}; {len(extra)} others play no part in a render" if extra else note


def single_file(model: Model) -> StateDict:
    """A checkpoint's state dict under the names of a single file."""
    if model.container is not Container.DIFFUSERS:
        return with_prediction_beside(Path(model.path), model.state_dict)
    state = model.state_dict
    return to_single_file(pipeline_parts(state), state.metadata).state


def fingerprints(path: str) -> Fingerprints:
    """Those of a file and of what belongs to it, or of all in a folder. Raises FileMissing."""
    place = Path(path)
    if place.is_dir():
        others = sorted(place.rglob("*"))
    elif place.suffix == ".json":  # the index of files beside it
        others = sorted(place.parent.iterdir())
    else:
        others = [place.with_suffix(".yaml")]
    try:
        own = Fingerprint.of(os.stat(path))
        return (own, *(Fingerprint.of(each.stat()) for each in others if each.is_file()))
    except OSError as error:
        raise FileMissing("no such file", path=path) from error
