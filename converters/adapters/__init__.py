"""Adapter files as modules: every key belongs to one module, or is named as unused with a reason.

`FAMILIES` is the table of what a module can be. A module whose roles fit no row is not applied in
part: a pair with a companion that we do not know is not the change that its author meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from converters.adapters.boft import BOFT, BOFT_PEFT
from converters.adapters.dora import MAGNITUDES
from converters.adapters.full import FULL, FULL_BIAS, NORM, NORM_BIAS, SET
from converters.adapters.glora import GLORA
from converters.adapters.ia3 import IA3, IA3_PEFT
from converters.adapters.loha import LOHA, LOHA_TUCKER
from converters.adapters.lokr import LOKR
from converters.adapters.lora import LOCON, LORA
from converters.adapters.lora_bias import LORA_BIAS, bias_of
from converters.adapters.module import Factors, Family, Module, Shape, Stated
from converters.adapters.oft import OFT, OFT_DIAG, OFT_PEFT
from converters.adapters.peft_config import peft_configs
from converters.dtypes import CODES
from converters.embedding_forms import is_bundled
from converters.errors import MergeProblem
from converters.identify.adapter_keys import Key, adapter_keys
from converters.statedict import LazyTensor, StateDict

__all__ = [
    "FAMILIES",
    "Adapter",
    "Factors",
    "Family",
    "Module",
    "Shape",
    "family_of",
    "load_adapter",
]

FAMILIES: tuple[Family, ...] = (
    *(LORA, LOCON, LOHA, LOHA_TUCKER, *LOKR, IA3, IA3_PEFT, GLORA),
    *(FULL, SET, NORM, OFT, OFT_DIAG, OFT_PEFT, BOFT, BOFT_PEFT, FULL_BIAS, NORM_BIAS),
)

_ROLES = (
    (re.compile(r"lora_up\.weight|lora_B(?:\.\w+)?\.weight|.*\bup\.weight"), "up"),
    (re.compile(r"lora_down\.weight|lora_A(?:\.\w+)?\.weight|.*\bdown\.weight"), "down"),
    (re.compile(r"lora_mid\.weight"), "mid"),
    (re.compile(r"lora_B(?:\.\w+)?\.bias"), LORA_BIAS),
    (re.compile(r"lora_magnitude_vector.*"), "magnitude"),
    (re.compile(r"oft_R.*"), "oft_R"),
    (re.compile(r"([ab][12]|bm)\.weight"), r"\1"),
)
"""What a key's ending is called here; every other ending is a role of its own."""


_NO_ADAPTER = "it belongs to an embedding in the same file"
_NO_TENSOR = "it is no tensor of an adapter"
_NO_LORA = "there is no LoRA whose bias it is"


@dataclass(frozen=True, slots=True)
class Adapter:
    """The modules of an adapter file, and the keys that are of none, each with the reason."""

    modules: tuple[Module, ...]
    unused: Mapping[str, str]

    @property
    def algorithm(self) -> tuple[str, ...]:
        """The families present."""
        return tuple(sorted({module.family for module in self.modules}))


def load_adapter(sd: StateDict) -> Adapter:
    """Group the keys of an adapter into modules. Reads no tensor data.

    Raises MergeProblem for two tensors that are the same part of one module, CorruptFile or
    UnsupportedFile for a configuration that cannot be used.
    """
    grouped, unused = _grouped(sd)
    configs = peft_configs(sd.metadata)
    modules: list[Module] = []
    for name, keys in grouped.items():
        tensors = {role: sd[key] for role, key in keys.items()}
        found, rest = _modules(name, keys, tensors, configs.stated(name))
        modules += found
        unused |= rest
    return Adapter(tuple(modules), unused)


def _modules(
    name: str, keys: Mapping[str, str], tensors: Mapping[str, LazyTensor], stated: Stated
) -> tuple[list[Module], dict[str, str]]:
    """What the keys and tensors of one name, both by their roles, make; and the rest, with reasons.

    One layer may have a change of its weight, and others of its bias.
    """
    modules: list[Module] = []
    unused: dict[str, str] = {}
    for roles in _parts(frozenset(keys)):
        own = {role: tensor for role, tensor in tensors.items() if role in roles}
        names = tuple(keys[role] for role in own)
        family = _family(frozenset(own))
        if family is None or (reason := _broken(own)):
            unused |= dict.fromkeys(names, reason if family else _why_not(roles))
        else:
            modules.append(Module(name, family.name, own, names, family.part, stated))
    if LORA_BIAS in keys:
        lora = next((module for module in modules if "up" in module.tensors), None)
        reason = _NO_LORA if lora is None else _broken({LORA_BIAS: tensors[LORA_BIAS]})
        if lora is None or reason:
            unused[keys[LORA_BIAS]] = reason
        else:
            modules.append(bias_of(lora, keys[LORA_BIAS], tensors[LORA_BIAS]))
    return modules, unused


def family_of(module: Module) -> Family:
    """The table row of a module that `load_adapter` made."""
    found = _family(frozenset(module.tensors))
    assert found is not None
    return found


def _grouped(sd: StateDict) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Module -> role -> key, and the keys that belong to no module."""
    grouped: dict[str, dict[str, str]] = {}
    known: set[str] = set()
    for key in adapter_keys(sd):
        _add(grouped, key.module, _role(key), key.name)
        known.add(key.name)
    unused: dict[str, str] = {}
    for name in sd:
        if name not in known:
            module = _module_before(name, grouped)
            if module is None:
                unused[name] = _NO_ADAPTER if is_bundled(name) else _NO_TENSOR
            else:
                _add(grouped, module, name[len(module) + 1 :], name)
    return grouped, unused


def _role(key: Key) -> str:
    if key.role == "oft_blocks" and len(key.tensor.shape) == 4:
        return "boft_blocks"
    return _role_of_ending(key.role)


@lru_cache(maxsize=256)
def _role_of_ending(ending: str) -> str:
    """Files have thousands of keys with a handful of endings."""
    for pattern, role in _ROLES:
        if match := pattern.fullmatch(ending):
            return match.expand(role)
    return ending


def _module_before(name: str, grouped: Mapping[str, object]) -> str | None:
    head = name
    while "." in head:
        head = head.rpartition(".")[0]
        if head in grouped:
            return head
    return None


def _add(grouped: dict[str, dict[str, str]], module: str, role: str, key: str) -> None:
    keys = grouped.setdefault(module, {})
    if role in keys:
        raise MergeProblem(
            f"{key} and {keys[role]} are both the {role} of module {module}",
            hint="the file holds two adapters, or one adapter in two spellings",
        )
    keys[role] = key


def _parts(roles: frozenset[str]) -> Iterator[frozenset[str]]:
    """The roles that change the bias, each alone, and all others together but for that of LoRA."""
    biases = roles & (FULL_BIAS.required | NORM_BIAS.required)
    yield from (frozenset({role}) for role in sorted(biases))
    if others := roles - biases - {LORA_BIAS}:
        yield others


def _family(roles: frozenset[str]) -> Family | None:
    for row in FAMILIES:
        if row.takes(roles) or _takes_decomposed(row, roles):
            return row
    return None


def _takes_decomposed(row: Family, roles: frozenset[str]) -> bool:
    return row.decomposes and len(roles & MAGNITUDES) == 1 and row.takes(roles - MAGNITUDES)


def _why_not(roles: frozenset[str]) -> str:
    own = roles - MAGNITUDES
    partly = [row for row in FAMILIES if own <= row.required | row.optional and own & row.required]
    if partly:
        missing = min((row.required - own for row in partly), key=len)
        return f"its module lacks {' and '.join(sorted(missing))}"
    return f"no algorithm known here has {' and '.join(sorted(roles))}"


def _broken(tensors: Mapping[str, LazyTensor]) -> str:
    for role in ("alpha", "scale"):
        if role in tensors and tensors[role].numel != 1:
            return f"the {role} of its module is not one number"
    for role, tensor in tensors.items():
        if role not in _NUMBERS and (not tensor.dtype.is_float or tensor.dtype in CODES):
            return f"the {role} of its module is {tensor.dtype.label}, whose scale is not here"
    return ""


_NUMBERS = frozenset({"alpha", "scale", "on_input"})
"""Roles of single numbers, which some trainers keep as integers."""
