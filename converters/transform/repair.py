"""Mistakes that other programs left in checkpoints, and what every program reads instead.

Source of both rules: ComfyUI `comfy/supported_models.py` (process_clip_state_dict rounds the
positions, adds `text_model.`), A1111 `modules/sd_models.py` (checkpoint_dict_replacements).
"""

from __future__ import annotations

from converters.bytesource import MemoryBytes
from converters.dtypes import DType
from converters.statedict import Extent, LazyTensor, StateDict

POSITION_IDS = "embeddings.position_ids"
_ENCODERS = ("cond_stage_model.transformer.", "conditioner.embedders.0.transformer.")
_OLD = ("embeddings.", "encoder.", "final_layer_norm.")
_HF = "text_model."


def repair(state: StateDict) -> tuple[StateDict, tuple[str, ...]]:
    """The same tensors without known mistakes, and a sentence for each that was mended.

    Reads the few hundred bytes of the position numbers, nothing else. Raises FileProblem.
    """
    renamed, old_names = _named_as_now(state)
    mended: dict[str, LazyTensor] = {}
    notes = list(old_names)
    for name, tensor in renamed.items():
        if name.endswith(POSITION_IDS) and not _counts_up(tensor):
            mended[name] = _positions(tensor)
            notes.append(f"repaired {name}: not the whole numbers 0..{tensor.numel - 1}")
    return renamed.overlay(mended), tuple(notes)


def _named_as_now(state: StateDict) -> tuple[StateDict, tuple[str, ...]]:
    """Old text encoders lack `text_model.`; where some tensors have it, nothing is renamed."""
    spelling = next(filter(None, (_spelling(state, prefix) for prefix in _ENCODERS)), {})
    if not spelling:
        return state, ()
    old, new = next(iter(spelling.items()))
    renamed = state.rename(lambda name: spelling.get(name, name))
    return renamed, (f"repaired {len(spelling)} names as {old} to {new}",)


def _spelling(state: StateDict, prefix: str) -> dict[str, str]:
    """Old name -> name of today for the text encoder under a prefix."""
    if any(name.startswith(prefix + _HF) for name in state):
        return {}
    old = tuple(prefix + word for word in _OLD)
    return {n: prefix + _HF + n.removeprefix(prefix) for n in state if n.startswith(old)}


def _counts_up(tensor: LazyTensor) -> bool:
    return tensor.dtype is DType.I64 and bytes(tensor.read()) == _numbers(tensor.numel)


def _positions(tensor: LazyTensor) -> LazyTensor:
    data = _numbers(tensor.numel)
    extent = Extent(MemoryBytes(data, tensor.origin), 0, len(data))
    return LazyTensor(DType.I64, tensor.shape, (extent,), tensor.origin)


def _numbers(count: int) -> bytes:
    return b"".join(number.to_bytes(8, "little") for number in range(count))
