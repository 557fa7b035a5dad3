"""`<stem>.yaml`: the configuration of a checkpoint in the form of latent-diffusion.

Of it only `model.params.parameterization` is read, which tells what the model predicts: the one
fact that neither names nor shapes of its tensors tell.
"""

from __future__ import annotations

from converters.model_config import parameterization
from registry.document import decode
from registry.sidecars.record import Sidecar

OWNER = "model-config"
MAX_BYTES = 1_000_000
"""Real ones have a few thousand."""

_PREDICTIONS = {"eps": "epsilon", "v": "v"}


def read(path: str, content: bytes) -> Sidecar | None:
    """What the model predicts; None for a file that configures no model."""
    text, problems = decode(content)
    said = parameterization(text)
    if said is None:
        return None
    if said not in _PREDICTIONS:
        problems = (*problems, f"model.params.parameterization is {said[:40]!r}, neither eps nor v")
    return Sidecar(path=path, owner=OWNER, prediction=_PREDICTIONS.get(said), problems=problems)
