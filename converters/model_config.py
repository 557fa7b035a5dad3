"""The configuration of a checkpoint in the form of latent-diffusion, `<stem>.yaml`.

Apart from what identifies files, so that who reads it beside a model need not import that.
"""

from __future__ import annotations

import re

_ENTRY = re.compile(r"^(?P<indent> *)(?P<key>[\w.-]+) *:(?P<value>[^\n]*)", re.MULTILINE)
_PARAMS = ("model", "params")
_PARAMETERIZATION = (*_PARAMS, "parameterization")


def parameterization(text: str) -> str | None:
    """`model.params.parameterization` of a block-style document; its default beside other params.

    None for a document that configures no model.
    """
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
            said = entry["value"].partition(" #")[0].strip().strip("\"'")
    return said
