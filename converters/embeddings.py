"""Textual inversions: the token vectors in a file, in every layout that occurs.

Sources: lllyasviel/stable-diffusion-webui-forge `modules/textual_inversion/textual_inversion.py`
(A1111 `.pt`), huggingface/diffusers (`learned_embeds`), kohya and ComfyUI (`emb_params`, `clip_l`).
"""

from __future__ import annotations

from dataclasses import dataclass

from converters.errors import CorruptFile, WrongFamily
from converters.extras import file_extras
from converters.identify.embeddings import A1111, is_vectors
from converters.statedict import LazyTensor, StateDict


@dataclass(frozen=True, slots=True)
class Embedding:
    """Vectors (n, d) that stand for the n consecutive tokens of one word.

    `name` is what the file calls itself, None when only its file name does. `step` counts training
    steps, `trained_on` names the checkpoint it was trained with.
    """

    name: str | None
    vectors: LazyTensor
    step: int | None = None
    trained_on: str | None = None

    @property
    def count(self) -> int:
        """How many token positions the word takes."""
        return self.vectors.shape[0]

    @property
    def width(self) -> int:
        """Width of the text encoder it is for."""
        return self.vectors.shape[1]


def read_embedding(sd: StateDict) -> Embedding:
    """The embedding in a file.

    Raises WrongFamily for the pairs of SDXL, CorruptFile for files that hold none.
    """
    if all(name in sd for name in _PAIR):
        raise WrongFamily("an SDXL embedding with vectors for two text encoders, not one for SD1")
    key = _vector_name(sd)
    if key is None or not is_vectors(sd[key]):
        raise CorruptFile("holds no token vectors of a text encoder's width")
    extras = file_extras(sd)
    return Embedding(
        name=_text(extras.get("name")) or _token(key),
        vectors=_as_rows(sd[key]),
        step=step if isinstance(step := extras.get("step"), int) else None,
        trained_on=_text(extras.get("sd_checkpoint_name")),
    )


def read_vectors(sd: StateDict) -> dict[int, LazyTensor]:
    """Vectors `(n, d)` by their width d: those of one text encoder, or of the two of SDXL.

    Raises CorruptFile for files that hold none, or not as many for both encoders.
    """
    if not all(name in sd for name in _PAIR):
        vectors = read_embedding(sd).vectors
        return {vectors.shape[1]: vectors}
    pair = [_as_rows(sd[name]) for name in _PAIR]
    if not all(map(is_vectors, pair)) or pair[0].shape[0] != pair[1].shape[0]:
        raise CorruptFile("its vectors for the two text encoders do not belong together")
    return {tensor.shape[1]: tensor for tensor in pair}


_PAIR = ("clip_l", "clip_g")
_UNNAMED = ("emb_params", "clip_l")


def _vector_name(sd: StateDict) -> str | None:
    for name in sd:
        if name in _UNNAMED or A1111.match(name):
            return name
    return next(iter(sd)) if len(sd) == 1 else None


def _token(key: str) -> str | None:
    """The token that a lone tensor is named by."""
    return None if key in _UNNAMED or A1111.match(key) else key


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _as_rows(tensor: LazyTensor) -> LazyTensor:
    return tensor.reshape((1, *tensor.shape)) if len(tensor.shape) == 1 else tensor
