"""What a file's own folder says where names and shapes are silent: prediction, and whose VAE.

And what its own name says: that it is a part of a model.

`<stem>.yaml` in the form of latent-diffusion states what a checkpoint predicts
(CompVis/latent-diffusion `ldm/models/diffusion/ddpm.py`: "eps", the default, or "x0"; "v" since
Stable Diffusion 2). `config.json` of diffusers states the scale of a VAE's latents, which is all
that tells VAEs of equal shapes apart.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

from converters.bases import Base, Prediction
from converters.containers.diffusers_folder import PREDICTION_KEY
from converters.identify import Identity, identify
from converters.identify.prediction import OPEN_FAMILIES, is_stated
from converters.kinds import Kind
from converters.model_config import parameterization
from converters.shard_names import shard_of
from converters.statedict import StateDict

_MOST = 1_000_000
"""Bytes of a configuration; real ones have a few thousand."""

_PREDICTIONS = {"eps": Prediction.EPSILON, "v": Prediction.V}
_SCALES = ((0.13025, Base.SDXL), (1.5305, Base.SD3), (0.3611, Base.FLUX))
"""Scales of latents that one family's VAE has; that of SD1 is SD2's, too."""


def identify_file(path: Path, sd: StateDict) -> Identity:
    """What the file at a path is, with what lies beside it. Never raises."""
    identity, part = _identified(path, sd), shard_of(path.name)
    if part is None:
        return identity
    problem = f"is part {part.number} of {part.count} of a model, not a whole one"
    return replace(identity, problems=(problem, *identity.problems))


def _identified(path: Path, sd: StateDict) -> Identity:
    identity = identify(sd)
    if identity.layout == "diffusers" and identity.kind is Kind.CHECKPOINT:
        return identity  # a pipeline's folder holds its own configuration
    if identity.kind is Kind.VAE and identity.base is Base.UNKNOWN:
        return _with_scale(identity, path.parent / "config.json")
    config, found = _prediction(path, sd, identity)
    if found is None:
        return identity
    said = f"{config.name} beside it says {found} prediction"
    return replace(identity, prediction=found, evidence=(*identity.evidence, said))


def with_prediction_beside(path: Path, sd: StateDict) -> StateDict:
    """The tensors of a file, with what only its configuration says in the metadata, too."""
    _, found = _prediction(path, sd, identify(sd))
    return sd if found is None else sd.with_metadata({**sd.metadata, PREDICTION_KEY: found.value})


def _prediction(path: Path, sd: StateDict, identity: Identity) -> tuple[Path, Prediction | None]:
    """A checkpoint's configuration, and what it says other than the file itself."""
    config = path.parent / f"{path.stem}.yaml"
    denoises = identity.kind in (Kind.CHECKPOINT, Kind.DIFFUSION_MODEL)
    if not denoises or identity.base not in OPEN_FAMILIES or is_stated(sd, identity.base):
        return config, None
    found = _PREDICTIONS.get(parameterization(_text(config)) or "")
    return config, None if found is identity.prediction else found


def _with_scale(identity: Identity, config: Path) -> Identity:
    try:
        stated = json.loads(_text(config))["scaling_factor"]
        base = next(base for scale, base in _SCALES if math.isclose(stated, scale, rel_tol=1e-4))
    except (ValueError, KeyError, TypeError, RecursionError, StopIteration):
        return identity
    said = f"the scale of its latents in config.json beside it, {stated}, is that of {base.label}"
    return replace(identity, base=base, evidence=(*identity.evidence, said))


def _text(path: Path) -> str:
    """A small text file; empty where there is none that can be read."""
    try:
        with path.open("rb") as file:
            return file.read(_MOST).decode("utf-8-sig", "replace")
    except (OSError, ValueError):
        return ""
