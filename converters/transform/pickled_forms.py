"""What a model looks like inside a pickle, as the programs expect it that read pickles.

Sources: lllyasviel/stable-diffusion-webui-forge `modules/sd_models.py`,
`modules/textual_inversion/textual_inversion.py`, `modules/hypernetworks/hypernetwork.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from converters.embeddings import read_embedding
from converters.extras import file_extras
from converters.identify import Kind
from converters.identify.embeddings import A1111
from converters.identify.hypernetworks import TENSOR
from converters.statedict import LazyTensor, Plain, StateDict
from converters.writers.torch_pickle import Tree

_STAR_TOKEN = 265
"""The vocabulary's number of `*`, the token that A1111 trains an embedding on."""

_PARAM = "string_to_param"
_UNNAMED = "tensor"
"""What a tensor is called that is all there is in a pickle."""


@dataclass(frozen=True, slots=True)
class PickledForm:
    """The tree to pickle, and the tensors under the names that reading it will give."""

    tree: Tree
    seen: StateDict


def pickled_form(state: StateDict, kind: Kind) -> PickledForm:
    """A model of this kind as a tree: with its plain values where programs look for them."""
    if set(state) == {_UNNAMED}:
        return PickledForm(state[_UNNAMED], state)
    if kind is Kind.HYPERNETWORK:
        return PickledForm(_hypernetwork(state), state)
    if kind is Kind.EMBEDDING:
        return _embedding(state)
    return PickledForm({"state_dict": dict(state.tensors), **_beside(state)}, state)


def _embedding(state: StateDict) -> PickledForm:
    """A1111's form for its layout; others stay as they are named."""
    if not all(map(A1111.match, state)):
        return PickledForm(dict(state.tensors), state)
    embedding = read_embedding(state)
    extras = file_extras(state)
    token = extras.get("string_to_token.*")
    tree: dict[str, Tree] = {
        "string_to_token": {"*": token if isinstance(token, int) else _STAR_TOKEN},
        _PARAM: {"*": embedding.vectors},
        "name": embedding.name,
        "step": embedding.step,
        "sd_checkpoint": None,
        "sd_checkpoint_name": None,
    }
    return PickledForm(tree | _beside(state), StateDict({f"{_PARAM}.*": embedding.vectors}))


def _hypernetwork(state: StateDict) -> Tree:
    """Width -> (for keys, for values), each a state dict; the attributes beside them."""
    tree: dict[str | int, Tree] = dict(_beside(state).items())
    widths: dict[int, tuple[dict[str, Tree], dict[str, Tree]]] = {}
    for name, tensor in state.items():
        match = TENSOR.match(name)
        assert match is not None, name  # that is how the kind is recognised
        width = int(match["width"])
        tree[width] = sides = widths.setdefault(width, ({}, {}))
        sides[int(match["side"])][name.split(".", 2)[2]] = tensor
    return tree


def _beside(state: StateDict) -> dict[str, Tree]:
    """The plain values of the top level."""
    return {name: value for name, value in file_extras(state).items() if _is_kept(name, value)}


def _is_kept(name: str, value: Plain | LazyTensor) -> bool:
    return "." not in name and name != "state_dict" and not _has_bytes(value)


def _has_bytes(value: Plain | LazyTensor) -> bool:
    """Bytes have no form in the pickles of protocol 2."""
    if isinstance(value, list):
        return any(map(_has_bytes, value))
    if isinstance(value, dict):
        return any(map(_has_bytes, value.values()))
    return isinstance(value, bytes)
