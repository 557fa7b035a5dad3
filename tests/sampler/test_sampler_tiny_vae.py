"""Tiny autoencoders, whole and in halves, under all their names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from helpers.adapters import lazy
from safetensors.torch import save_file

from assetmgr.sampler.models.tiny_vae import load_tiny
from assetmgr.sampler.process.jobs import RenderJob
from assetmgr.sampler.process.session import Session
from converters.errors import WrongFamily
from converters.identify import identify
from converters.progress import SILENT
from converters.statedict import StateDict

if TYPE_CHECKING:
    from conftest import Models

# diffusers' schedulers convert tensors to arrays in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

Tensors = dict[str, torch.Tensor]


def made(channels: int = 4) -> Tensors:
    """Random weights under diffusers' names."""
    from diffusers import AutoencoderTiny

    torch.manual_seed(1)
    return dict(AutoencoderTiny(latent_channels=channels).state_dict())


def original(tensors: Tensors, half: str) -> Tensors:
    """A half as the authors name it: the decoder's clamp counts as a layer."""
    shift = 1 if half == "decoder" else 0
    prefix = f"{half}.layers."
    found: Tensors = {}
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            number, _, rest = name.removeprefix(prefix).partition(".")
            found[f"{int(number) + shift}.{rest}"] = tensor
    return found


def halves(tensors: Tensors, spelling: str) -> Tensors:
    """Both halves in one file, under a prefix for each."""
    return {
        spelling.format(half) + name: tensor
        for half in ("encoder", "decoder")
        for name, tensor in original(tensors, half).items()
    }


def loaded(tensors: Tensors) -> torch.nn.Module:
    state = StateDict({name: lazy(value, name) for name, value in tensors.items()}, {})
    assert identify(state).variant == "taesd"
    network: torch.nn.Module = load_tiny(state, torch.device("cpu"), torch.float32, SILENT)
    return network


@pytest.mark.parametrize("channels", [4, 16])
def test_every_spelling_gives_the_network_of_diffusers(channels: int) -> None:
    tensors = made(channels)
    for file in (
        tensors,
        halves(tensors, "taesd_{}."),
        halves(tensors, "{}."),
    ):
        state = loaded(file).state_dict()
        assert state.keys() == tensors.keys()
        assert all(torch.equal(state[name], tensors[name]) for name in tensors)
    for half in ("encoder", "decoder"):
        state = loaded(original(tensors, half)).state_dict()
        assert state.keys() == {name for name in tensors if name.startswith(half)}


@pytest.mark.parametrize("half", ["encoder", "decoder", None])
def test_a_tiny_autoencoder_stands_in_for_the_vae_of_the_base(
    half: str | None,
    session: Session,
    on_base: Callable[[Path, str], RenderJob],
    models: Models,
) -> None:
    tensors = made()
    path = models.folder / f"taesd-{half}.safetensors"
    save_file(tensors if half is None else original(tensors, half), path)
    outcome = session.render(on_base(path, "vae"), SILENT)
    checks = {check.name: check for check in outcome.checks}
    assert checks["loads completely"].ok
    assert checks["loads completely"].detail.endswith("autoencoder") == (half is None)
    assert "same picture" in checks
    assert ("round trip" in checks) == (half is None)
    assert outcome.image is not None


def test_one_for_other_latents_is_refused(
    session: Session, on_base: Callable[[Path, str], RenderJob], models: Models
) -> None:
    path = models.folder / "taesd3.safetensors"
    save_file(original(made(16), "decoder"), path)
    with pytest.raises(WrongFamily, match="16 channels"):
        session.render(replace(on_base(path, "vae"), steps=1), SILENT)
