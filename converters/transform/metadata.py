"""The texts of an output file: what its source said, the ModelSpec, and where it comes from.

Sources: Stability-AI/ModelSpec `README.md` (keys), transformers
`modeling_utils.py` (`format` must be `pt`). No date is written, so that the same conversion gives
the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from converters.extras import extras_as_metadata
from converters.identify import Identity, Kind, Prediction
from converters.modelspec import SUFFIXES, architecture_of
from converters.statedict import Plain, StateDict

DERIVATION_KEY = "assetmgr.derivation"
"""Metadata key of the JSON object {operation, parameters, parents}."""

_PREDICTIONS = (Prediction.EPSILON, Prediction.V)
_UNET_INPUT = ("model.diffusion_model.input_blocks.0.0.weight", "unet.conv_in.weight")


@dataclass(frozen=True, slots=True)
class Parent:
    """A file that an output was made of, by the hashes that sites know the original by.

    Hashes are None where they were not computed, and `autov3` unless it is a safetensors file.
    """

    name: str
    sha256: str | None = None
    blake3: str | None = None
    autov3: str | None = None


def provenance(
    state: StateDict,
    identity: Identity,
    *,
    title: str,
    operation: str,
    parents: Sequence[Parent],
    parameters: Mapping[str, Plain] | None = None,
) -> dict[str, str]:
    """Metadata for the output `state`: the old texts are kept, ours added.

    `modelspec.*` entries are added where missing, plain values beside the tensors of a pickle are
    kept as JSON, and `assetmgr.derivation` names operation, parameters and parents.
    """
    derivation = {
        "operation": operation,
        "parameters": dict(parameters or {}),
        "parents": [asdict(parent) for parent in parents],
    }
    return {
        **_modelspec(state, identity, title, parents if operation.startswith("merge") else ()),
        **extras_as_metadata(state.extras),
        **state.metadata,
        "format": "pt",
        DERIVATION_KEY: json.dumps(derivation, sort_keys=True),
    }


def _modelspec(
    state: StateDict, identity: Identity, title: str, merged: Sequence[Parent]
) -> dict[str, str]:
    architecture = architecture_of(identity.base, identity.variant, identity.prediction)
    suffix = SUFFIXES.get(identity.kind)
    if architecture is None or suffix is None:
        return {}
    texts = {
        "sai_model_spec": "1.0.1",
        "architecture": architecture.name + suffix,
        "implementation": architecture.implementation,
        "title": title,
    }
    if identity.kind is Kind.CHECKPOINT:
        if identity.prediction in _PREDICTIONS:
            texts["prediction_type"] = identity.prediction.value
        if _unet_width(state) == architecture.channels:  # a smaller one was trained on other sizes
            texts["resolution"] = f"{architecture.resolution}x{architecture.resolution}"
    if identity.trigger_words:
        texts["trigger_phrase"] = ", ".join(identity.trigger_words)
    if merged:
        texts["merged_from"] = ", ".join(parent.name for parent in merged)
    return {f"modelspec.{key}": text for key, text in texts.items()}


def _unet_width(state: StateDict) -> int | None:
    return next((state[name].shape[0] for name in _UNET_INPUT if name in state), None)
