"""Textual inversions in every form that programs keep them in, and several in one file.

| form | tensors | programs |
|---|---|---|
| `a1111` | `string_to_param.*`, the name and the steps beside it | A1111 `.pt` and pictures |
| `diffusers` | one named by its token | `learned_embeds.bin`, `.safetensors` |
| `emb_params` | `emb_params` | other trainers |
| `clip_l`, `clip_g` | one of that name, for that encoder | |
| `clip_l+clip_g` | both, for SDXL | kohya, A1111, ComfyUI |
| `tensor` | one without a name | old scripts |

Bundles are LoRAs that carry embeddings: `bundle_emb.<name>.` before the names of any form. A file
of diffusers may hold several tokens. Sources: lllyasviel/stable-diffusion-webui-forge
`modules/textual_inversion/textual_inversion.py` and `extensions-builtin/Lora/networks.py`,
huggingface/diffusers `loaders/textual_inversion.py`, kohya-ss/sd-scripts
`train_textual_inversion.py`, IrisRainbowNeko/HCP-Diffusion (bundles).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from converters.embeddings import PAIR, read_embedding, read_vectors
from converters.errors import CorruptFile, UnsupportedFile, WrongFamily
from converters.extras import file_extras
from converters.identify.embeddings import is_token, is_vectors
from converters.statedict import LazyTensor, Plain, StateDict

BUNDLE = "bundle_emb."
"""Begins the names of embeddings in an adapter's file."""

_WIDTHS = {"clip_l": 768, "clip_g": 1280}
_NAMES = {
    "a1111": ("string_to_param.*",),
    "diffusers": (),  # the token
    "emb_params": ("emb_params",),
    "clip_l": ("clip_l",),
    "clip_g": ("clip_g",),
    "clip_l+clip_g": PAIR,
    "tensor": ("tensor",),
}
FORMS = tuple(_NAMES)
"""The words for the forms, which are those of `identify` and of `convert --layout`."""


@dataclass(frozen=True, slots=True)
class Inversion:
    """An embedding: its name, and vectors (n, d) for one text encoder, or for both of SDXL.

    The vectors for CLIP-L come first. `extras` are the plain values that its file held.
    """

    name: str
    vectors: tuple[LazyTensor, ...]
    extras: Mapping[str, Plain] = field(default_factory=dict)

    @property
    def widths(self) -> tuple[int, ...]:
        """The widths of the text encoders that it is for."""
        return tuple(tensor.shape[1] for tensor in self.vectors)

    def split(self) -> tuple[Inversion, ...]:
        """One for each text encoder, named after it."""
        if len(self.vectors) == 1:
            return (self,)
        return tuple(
            replace(self, name=f"{self.name}.{encoder}", vectors=(tensor,))
            for encoder, tensor in zip(PAIR, self.vectors, strict=True)
        )

    def usual_form(self) -> str:
        """The form that most programs take."""
        return "clip_l+clip_g" if len(self.vectors) > 1 else "emb_params"


def is_bundled(name: str) -> bool:
    """Whether a tensor of an adapter's file is that of an embedding in it."""
    return name.startswith(BUNDLE)


def inversions_in(state: StateDict, name: str) -> tuple[Inversion, ...]:
    """Every embedding in a file; what has no name of its own gets `name`.

    Raises CorruptFile or WrongFamily for files that hold none, or something else beside them.
    """
    parts = bundled_in(state)
    if parts:
        return tuple(_one(part, word) for word, part in parts.items())
    if len(state) > 1 and all(is_token(key) and is_vectors(t) for key, t in state.items()):
        return tuple(_one(StateDict({key: state[key]}), key) for key in state)
    return (_one(state, name),)


def bundled_in(state: StateDict) -> dict[str, StateDict]:
    """The embeddings in an adapter's file, each by its name there. Raises CorruptFile."""
    parts: dict[str, dict[str, LazyTensor]] = {}
    for key, tensor in state.items():
        if is_bundled(key):
            word, dot, rest = key.removeprefix(BUNDLE).partition(".")
            if not dot or not word or not rest:
                raise CorruptFile(f"{key} names no embedding and tensor of it")
            parts.setdefault(word, {})[rest] = tensor
    return {word: StateDict(tensors) for word, tensors in parts.items()}


def _one(state: StateDict, name: str) -> Inversion:
    vectors = tuple(tensor for _, tensor in sorted(read_vectors(state).items()))
    own = read_embedding(state).name if len(vectors) == 1 else None
    return Inversion(own or name, vectors, file_extras(state))


def in_form(inversion: Inversion, form: str) -> StateDict:
    """An embedding in a form, a word of FORMS; its name stays known beside it.

    Raises UnsupportedFile when the form is for other text encoders.
    """
    names = _NAMES[form] or (_token(inversion.name),)
    wanted = tuple(_WIDTHS[name] for name in names if name in _WIDTHS)
    if len(names) != len(inversion.vectors) or (wanted and wanted != inversion.widths):
        held = " and ".join(map(str, inversion.widths))
        raise UnsupportedFile(
            f"{inversion.name} has vectors of width {held}, which the form {form} does not hold",
            hint=_hint(inversion),
        )
    extras = {**inversion.extras, "name": inversion.name}
    return StateDict(dict(zip(names, inversion.vectors, strict=True)), {}, extras)


def _hint(inversion: Inversion) -> str | None:
    if len(inversion.vectors) > 1:
        return "`assetmgr extract embeddings --per-encoder` splits it"
    return "`assetmgr merge embeddings` joins those of both encoders" if _half(inversion) else None


def _half(inversion: Inversion) -> bool:
    return inversion.widths[0] in _WIDTHS.values()


def _token(name: str) -> str:
    """A name under which the lone tensor of a file is known for a token."""
    return name if is_token(name) else f"<{name}>"


def joined(inversions: Collection[Inversion]) -> StateDict:
    """Several embeddings as one file: the halves of a pair as SDXL's, others by their tokens.

    Raises WrongFamily for such as no file holds together.
    """
    halves = {one.widths: one for one in inversions}
    if len(inversions) == 2 and halves.keys() == {(768,), (1280,)}:
        first, second = halves[768,], halves[1280,]
        if first.vectors[0].shape[0] != second.vectors[0].shape[0]:
            counts = first.vectors[0].shape[0], second.vectors[0].shape[0]
            raise WrongFamily(
                f"{first.name} has {counts[0]} vectors, {second.name} has {counts[1]};"
                " the encoders of SDXL need as many"
            )
        pair = (*first.vectors, *second.vectors)
        name = first.name.removesuffix(".clip_l")
        return in_form(Inversion(name, pair, {**second.extras, **first.extras}), "clip_l+clip_g")
    tensors: dict[str, LazyTensor] = {}
    for one in inversions:
        token = _token(one.name)
        if one.widths != next(iter(inversions)).widths or len(one.vectors) > 1:
            raise WrongFamily(
                f"{one.name} has vectors of width {' and '.join(map(str, one.widths))};"
                " a file of several embeddings holds those of one text encoder",
                hint="--into ADAPTER bundles embeddings of any kind",
            )
        _require_new(token, tensors)
        tensors[token] = one.vectors[0]
    return StateDict(tensors)


def bundled(adapter: StateDict, inversions: Collection[Inversion]) -> StateDict:
    """An adapter with embeddings in it. Raises WrongFamily for two of one name."""
    tensors: dict[str, LazyTensor] = {}
    taken = bundled_in(adapter)
    for one in inversions:
        word = one.name.replace(".", "_")
        _require_new(word, taken)
        taken[word] = StateDict({})
        for name, tensor in in_form(one, one.usual_form()).items():
            tensors[f"{BUNDLE}{word}.{name}"] = tensor
    return adapter.overlay(tensors)


def _require_new(name: str, taken: Collection[str]) -> None:
    if name in taken:
        raise WrongFamily(f"two embeddings are named {name}")
