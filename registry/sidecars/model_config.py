"""`<stem>.yaml`: the configuration of a checkpoint in the form of latent-diffusion.

Of it only `model.params.parameterization` is read, which tells what the model predicts: the one
fact that neither names nor shapes of its tensors tell (`CompVis/latent-diffusion`
`ldm/models/diffusion/ddpm.py`: "eps", the default, or "x0"; "v" since Stable Diffusion 2).
"""

from __future__ import annotations

import re

from registry.document import decode
from registry.sidecars.record import Sidecar

OWNER = "model-config"
MAX_BYTES = 1_000_000
"""Real ones have a few thousand."""

_ENTRY = re.compile(r"^(?P<indent> *)(?P<key>[\w.-]+) *:(?P<value>[^\n]*)", re.MULTILINE)
_PARAMS = ("model", "params")
_PARAMETERIZATION = (*_PARAMS, "parameterization")
_PREDICTIONS = {"eps": "epsilon", "v": "v"}


def read(path: str, content: bytes) -> Sidecar | None:
    """What the model predicts; None for a file that configures no model."""
    text, problems = decode(content)
    said = _parameterization(text)
    if said is None:
        return None
    if said not in _PREDICTIONS:
        problems = (*problems, f"model.params.parameterization is {said[:40]!r}, neither eps nor v")
    return Sidecar(path=path, owner=OWNER, prediction=_PREDICTIONS.get(said), problems=problems)


def _parameterization(text: str) -> str | None:
    """The value in a block-style document; the default where there are only other parameters."""
    said: str | None = None
    way: list[tuple[int, str]] = []  # the open maps with their indentations, as deep as is wanted
    for entry in _ENTRY.finditer(text):
        indent = len(entry["indent"])
        while way and way[-1][0] >= indent:
            way.pop()
        if len(way) == len(_PARAMETERIZATION):
            continue
        way.append((indent, entry["key"]))
        place = tuple(key for _, key in way)
        if place == _PARAMS:
            said = said or "eps"
        elif place == _PARAMETERIZATION:
            said = _scalar(entry["value"])
    return said


def _scalar(value: str) -> str:
    return value.partition(" #")[0].strip().strip("\"'")
