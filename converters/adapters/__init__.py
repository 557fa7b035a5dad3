"""Adapter files as modules: every key belongs to one module, or is named as unused.

`FAMILIES` is the table of what a module can be. A module whose roles fit no row is not applied in
part: a LoRA pair with a DoRA scale beside it is not a LoRA.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from converters.adapters.lora import LOCON, LORA
from converters.adapters.module import Factors, Family, Module, Shape, component_of_module
from converters.statedict import LazyTensor, StateDict

__all__ = ["FAMILIES", "Adapter", "Factors", "Family", "Module", "Shape", "load_adapter"]

FAMILIES: tuple[Family, ...] = (LORA, LOCON)

_ROLES = {
    "lora_up.weight": "up",
    "lora_down.weight": "down",
    "lora_mid.weight": "mid",
    "alpha": "alpha",
}
"""Suffix -> role, in the kohya naming. Every other suffix is a role of its own."""

_NAME = re.compile(r"(?P<module>lora_(?:unet|te)_[^.]+)\.(?P<suffix>.+)")


@dataclass(frozen=True, slots=True)
class Adapter:
    """The modules of an adapter file, the keys that are of none, and the families present."""

    modules: tuple[Module, ...]
    unused: tuple[str, ...]
    algorithm: tuple[str, ...]

    def family(self, module: Module) -> Family:
        """The table row of a module."""
        return next(row for row in FAMILIES if row.name == module.family)


def load_adapter(sd: StateDict) -> Adapter:
    """Group the keys of an adapter in kohya naming into modules. Reads no tensor data."""
    grouped: dict[str, dict[str, str]] = {}
    unused: list[str] = []
    for key in sd:
        if match := _NAME.fullmatch(key):
            role = _ROLES.get(match["suffix"], match["suffix"])
            grouped.setdefault(match["module"], {})[role] = key
        else:
            unused.append(key)
    modules = []
    for name, keys in grouped.items():
        module = _module(name, keys, sd)
        if module is None:
            unused += keys.values()
        else:
            modules.append(module)
    return Adapter(tuple(modules), tuple(unused), tuple(sorted({m.family for m in modules})))


def _module(name: str, keys: dict[str, str], sd: StateDict) -> Module | None:
    tensors = {role: sd[key] for role, key in keys.items()}
    component = component_of_module(name)
    if component is None or not _alpha_is_one_number(tensors):
        return None
    families = _families(frozenset(tensors))
    return next(
        (Module(name, component, f.name, tensors, tuple(keys.values())) for f in families), None
    )


def _families(roles: frozenset[str]) -> Iterator[Family]:
    return (family for family in FAMILIES if family.takes(roles))


def _alpha_is_one_number(tensors: dict[str, LazyTensor]) -> bool:
    return "alpha" not in tensors or tensors["alpha"].numel == 1
