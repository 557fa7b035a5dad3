"""The embeddings in files, as the text encoders of a base take them.

Vectors that are named after an encoder are for it, and a file may leave out one; all others are
known by their width and are for every encoder of the family (comfyanonymous/ComfyUI
`comfy/sd1_clip.py`: `clip_l`, `clip_g`, `t5xxl`; Nerogar/OneTrainer: `…_out` follow the encoder).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from assetmgr.sampler.adapters.embeddings import NamedVectors, Vectors
from assetmgr.sampler.models.bundle import Bundle
from converters import compute
from converters.embedding_forms import bundled_in
from converters.embeddings import EncoderVectors, read_by_encoder, read_embedding, read_vectors
from converters.errors import CorruptFile, WrongFamily
from converters.layouts.flow_parts import CLIP_G, CLIP_L, T5
from converters.layouts.pipeline import FIRST_ENCODER, SECOND_ENCODER
from converters.statedict import StateDict

_NAMES = {FIRST_ENCODER: CLIP_L, SECOND_ENCODER: CLIP_G}
"""What files of embeddings call the encoders of a family."""


def read_for(bundle: Bundle, state: StateDict, name: str) -> tuple[NamedVectors, str]:
    """An embedding for the encoders of a base, and what else there is to say of it.

    Raises WrongFamily for vectors that no encoder takes, and the errors of reading it.
    """
    wanted = _widths(bundle)
    by_encoder = read_by_encoder(state)
    if not by_encoder:
        return NamedVectors(name, _unnamed(state, wanted, some=bundle.family.flow)), ""
    told = [each for each in by_encoder if not _is_untold(each.encoder, bundle)]
    _require_fit(told, wanted)
    _require_pair(told)
    silent = [encoder for encoder in wanted if encoder not in {each.encoder for each in told}]
    notes = [f"nothing for {', '.join(silent)}"] if silent else []
    if len(told) < len(by_encoder):
        notes.append("those for T5 not tried, which the base is without")
    made = NamedVectors(name, _values(told, outputs=False), _values(told, outputs=True))
    return made, "".join(f"; {note}" for note in notes)


def _unnamed(state: StateDict, wanted: Mapping[str, int], *, some: bool) -> Vectors:
    """Vectors known by their width, for all encoders or for `some`."""
    vectors = read_vectors(state)
    fits = vectors.keys() <= set(wanted.values())
    if not fits or (not some and len(vectors) < len(wanted)):
        raise _mismatch(vectors, wanted)
    return {width: compute.value(tensor).float() for width, tensor in vectors.items()}


def _require_fit(told: Sequence[EncoderVectors], wanted: Mapping[str, int]) -> None:
    widths = {each.encoder: each.vectors.shape[1] for each in told}
    if not widths or any(wanted.get(encoder) != width for encoder, width in widths.items()):
        raise _mismatch(widths.values(), wanted)


def _require_pair(told: Sequence[EncoderVectors]) -> None:
    """CLIP's two encoders are told of the same positions."""
    counts = {each.vectors.shape[0] for each in told if each.encoder in (CLIP_L, CLIP_G)}
    if len(counts) > 1:
        raise CorruptFile("its vectors for the two text encoders do not belong together")


def _values(told: Sequence[EncoderVectors], *, outputs: bool) -> Vectors:
    return {
        each.vectors.shape[1]: compute.value(each.vectors).float()
        for each in told
        if each.outputs is outputs
    }


def carried_by(bundle: Bundle, adapter: StateDict) -> tuple[NamedVectors, ...]:
    """The embeddings in an adapter's file. Raises as `read_for`."""
    return tuple(
        read_for(bundle, part, _own_name(part) or word)[0]
        for word, part in bundled_in(adapter).items()
    )


def _own_name(part: StateDict) -> str | None:
    return None if len(part) > 1 or read_by_encoder(part) else read_embedding(part).name


def _widths(bundle: Bundle) -> dict[str, int]:
    """The width of each encoder of a base."""
    widths = {
        _NAMES.get(use.component, use.component): int(network.config.hidden_size)
        for network, use in bundle.encoders
    }
    if bundle.prose is not None:
        widths[T5] = int(bundle.prose.network.config.d_model)
    return widths


def _is_untold(encoder: str, bundle: Bundle) -> bool:
    """Whether it is the T5 of a family that does without it."""
    return encoder == T5 and bundle.family.flow and bundle.prose is None


def _mismatch(found: Iterable[int], wanted: Mapping[str, int]) -> WrongFamily:
    ours, theirs = (" and ".join(map(str, sorted(w))) for w in (found, wanted.values()))
    return WrongFamily(f"its vectors have {ours or 'no'} values, the text encoders want {theirs}")
