"""Parts of a checkpoint taken out, left out, or replaced."""

from __future__ import annotations

from collections.abc import Callable, Collection

from converters.errors import UnsupportedFile
from converters.identify import identify
from converters.layouts.components import (
    TEXT_ENCODER,
    UNET,
    UNET_EMA,
    VAE,
    component,
    component_of,
)
from converters.layouts.pipeline import FIRST_ENCODER, SECOND_ENCODER, text_encoder_of
from converters.layouts.sd_vae import vae_to_diffusers, vae_to_ldm
from converters.statedict import StateDict

SELECTABLE = (UNET, VAE, TEXT_ENCODER)
"""What a selection may name; the averages of the UNet go with it."""


def select_components(
    state: StateDict, wanted: Collection[str], of: Callable[[str], str] = component_of
) -> tuple[StateDict, tuple[str, ...]]:
    """A file with only these of its components, under the names they had; and what is gone.

    `of` tells the component of a name: in an adapter that is `component_of_key`.
    What belongs to no component (markers, schedule buffers) stays. Raises UnsupportedFile for a
    component that is not there.
    """
    present = {of(name) for name in state}
    for name in wanted:
        if name not in present:
            raise UnsupportedFile(f"has no {name}", hint=_hint(present))
    unwanted = {*SELECTABLE, UNET_EMA} - {*wanted, *({UNET_EMA} if UNET in wanted else ())}
    dropped = {name for name in state if of(name) in unwanted}
    return state.drop(dropped), tuple(sorted(dropped))


def extract_component(state: StateDict, name: str) -> StateDict:
    """One component as a file of its own: without prefix, text encoders under transformers' names.

    `name` is UNET, VAE, FIRST_ENCODER or SECOND_ENCODER. Raises UnsupportedFile for one that is not
    there.
    """
    if name in (FIRST_ENCODER, SECOND_ENCODER):
        return text_encoder_of(state, identify(state).base, name)
    found = component(state, name)
    if not found:
        raise UnsupportedFile(f"has no {name}", hint=_hint({component_of(key) for key in state}))
    return found


def bake_vae(checkpoint: StateDict, vae: StateDict) -> StateDict:
    """The checkpoint with another VAE, in the VAE's own element types.

    Both namings of a VAE are taken; its tensors get the checkpoint's prefix. Raises UnsupportedFile
    when a tensor has another shape than in the VAE that it replaces, CorruptFile when it is none.
    """
    baked = vae_to_ldm(vae_to_diffusers(vae))
    old = {name for name in checkpoint if component_of(name) == VAE}
    for name in sorted(old & set(baked)):
        ours, theirs = checkpoint[name].shape, baked[name].shape
        if ours != theirs:
            raise UnsupportedFile(
                f"does not fit as VAE: {name} is {list(theirs)}, in the checkpoint {list(ours)}"
            )
    return checkpoint.drop(old).overlay(baked)


def _hint(present: Collection[str]) -> str | None:
    found = [name for name in SELECTABLE if name in present]
    return f"it has {', '.join(found)}" if found else None
