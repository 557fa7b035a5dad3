"""Textual inversions: the token vectors in a file, in every layout that occurs.

Sources: lllyasviel/stable-diffusion-webui-forge `modules/textual_inversion/textual_inversion.py`
(A1111 `.pt`), huggingface/diffusers (`learned_embeds`), kohya and ComfyUI (`emb_params`, `clip_l`).
"""

from __future__ import annotations

from dataclasses import dataclass

from converters.errors import CorruptFile, WrongFamily
from converters.extras import file_extras
from converters.identify.embeddings import A1111, OUTPUTS, encoder_of, is_vectors
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
    """The embedding in a file, for one text encoder.

    Raises WrongFamily for vectors of several encoders, CorruptFile for files that hold none, or
    more than one.
    """
    if all(name in sd for name in PAIR):
        raise WrongFamily("an SDXL embedding with vectors for two text encoders, not one for SD1")
    if len(sd) != 1:
        held = ", ".join(sorted(sd)[:3])
        raise CorruptFile(
            f"holds no token vectors of one text encoder alone, but {held or 'nothing'}"
        )
    ((key, vectors),) = sd.items()
    if not is_vectors(vectors):
        raise CorruptFile("holds no token vectors of a text encoder's width")
    extras = file_extras(sd)
    return Embedding(
        name=_text(extras.get("name")) or _token(key),
        vectors=_as_rows(vectors),
        step=step if isinstance(step := extras.get("step"), int) else None,
        trained_on=_text(extras.get("sd_checkpoint_name")),
    )


def read_vectors(sd: StateDict) -> dict[int, LazyTensor]:
    """Vectors `(n, d)` by their width d: those of one text encoder, or of the two of SDXL.

    Raises CorruptFile for files that hold none, others too, or not as many for both encoders.
    """
    if not all(name in sd for name in PAIR):
        vectors = read_embedding(sd).vectors
        return {vectors.shape[1]: vectors}
    if others := sorted(set(sd) - set(PAIR)):
        raise CorruptFile(f"holds {others[0]} beside the vectors of SDXL's two text encoders")
    pair = [_as_rows(sd[name]) for name in PAIR]
    if not all(map(is_vectors, pair)) or pair[0].shape[0] != pair[1].shape[0]:
        raise CorruptFile("its vectors for the two text encoders do not belong together")
    return {tensor.shape[1]: tensor for tensor in pair}


@dataclass(frozen=True, slots=True)
class EncoderVectors:
    """Vectors (n, d) for one text encoder: `clip_l`, `clip_g`, `t5xxl` or `llama`.

    They take the place of token embeddings, or as `outputs` that of what the encoder makes of them.
    """

    encoder: str
    vectors: LazyTensor
    outputs: bool


def read_by_encoder(sd: StateDict) -> tuple[EncoderVectors, ...]:
    """The vectors of a file whose every tensor is named after a text encoder; else none.

    Their widths are not looked at. Raises CorruptFile for two spellings of the same.
    """
    found: dict[tuple[str, bool], EncoderVectors] = {}
    for name, tensor in sd.items():
        encoder, outputs = encoder_of(name), name.endswith(OUTPUTS)
        if encoder is None or not 0 < len(tensor.shape) <= 2:
            return ()
        if (encoder, outputs) in found:
            raise CorruptFile(f"vectors for {encoder} are there twice, once as {name}")
        found[encoder, outputs] = EncoderVectors(encoder, _as_rows(tensor), outputs)
    return tuple(found.values())


PAIR = ("clip_l", "clip_g")
_UNNAMED = ("emb_params", "tensor", *PAIR)


def _token(key: str) -> str | None:
    """The token that a lone tensor is named by."""
    return None if key in _UNNAMED or A1111.match(key) else key


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _as_rows(tensor: LazyTensor) -> LazyTensor:
    return tensor.reshape((1, *tensor.shape)) if len(tensor.shape) == 1 else tensor
