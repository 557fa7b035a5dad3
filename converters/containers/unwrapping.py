"""From the object in a pickle to a flat state dict: wrappers taken off, paths joined by dots.

Conventions of trainers (reference: pytorch-lightning `state_dict`, DeepSpeed and DDP `module`,
Real-ESRGAN `params_ema`, torch.compile `_orig_mod.`) and of A1111's embeddings and hypernetworks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from converters.pickles.values import (
    Array,
    BadPickle,
    Global,
    Opaque,
    TensorRef,
    UnreadTensor,
)
from converters.statedict import Plain

Tensor = TensorRef | UnreadTensor | Array

WRAPPERS = (
    "state_dict", "model", "module", "ema", "params_ema", "params", "model_state_dict", "net",
)  # fmt: skip
PREFIXES = ("module.", "_orig_mod.")
MAX_WRAPPERS = 3
MAX_DEPTH = 64
MAX_NAME = 1024
MAX_VISITS = 2_000_000
_TRANSPARENT = ("_parameters", "_buffers", "_modules")


@dataclass(slots=True)
class Unwrapped:
    """Tensors and plain values by dotted path; `ignored` names entries beside the model."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    extras: dict[str, Plain] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)


def unwrap(value: object) -> Unwrapped:
    """The model in an unpickled object. Raises BadPickle for nesting and names out of bounds."""
    found = Unwrapped()
    model = _model_in(value, found)
    walk = _Walk(found)
    if isinstance(model, Tensor):
        found.tensors["tensor"] = model
    else:
        walk.visit(model, "", 0)
    found.tensors = _without_prefixes(found.tensors)
    return found


def _model_in(value: object, found: Unwrapped) -> object:
    for _ in range(MAX_WRAPPERS):
        inner = _wrapped(value)
        if inner is None or not isinstance(value, dict):
            return value
        for key, beside in value.items():
            if key != inner:
                _set_aside(_word(key), beside, found)
        value = value[inner]
    return value


def _wrapped(value: object) -> str | None:
    """The key under which the model lies, or None when the object is the model itself."""
    if not isinstance(value, dict):
        return None
    return next((key for key in WRAPPERS if _holds_tensors(value.get(key))), None)


def _holds_tensors(value: object) -> bool:
    """Whether a dict or module has a tensor in it, at most two levels further down."""
    level = [value]
    for _ in range(3):
        children = list(islice((child for member in level for child in _children(member)), 10_000))
        if any(isinstance(child, Tensor) for child in children):
            return True
        level = [child for child in children if isinstance(child, (dict, Opaque))]
    return False


def _children(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, Opaque):
        for name, child in _members(value):  # what has no name is a module's own dict of parts
            yield from (child.values() if not name and isinstance(child, dict) else (child,))


def _set_aside(name: str, value: object, found: Unwrapped) -> None:
    if isinstance(value, (str, int, float, bool)):
        found.extras[name] = value
    else:
        found.ignored.append(name)


class _Walk:
    """A depth-first walk with a limit on depth and on visits: shared values are visited again."""

    def __init__(self, found: Unwrapped) -> None:
        self._found = found
        self._visits = 0

    def visit(self, value: object, path: str, depth: int) -> None:
        self._count(path, depth)
        if isinstance(value, Tensor):
            self._add(path, value)
        elif isinstance(value, dict):
            self._visit_all(((_word(key), member) for key, member in value.items()), path, depth)
        elif isinstance(value, Opaque):
            self._visit_all(_members(value), path, depth)
        elif isinstance(value, (list, tuple)) and self._has_structure(value, depth):
            self._visit_all(((str(i), member) for i, member in enumerate(value)), path, depth)
        else:
            self._keep(path, value, depth)

    def _visit_all(self, members: Iterator[tuple[str, object]], path: str, depth: int) -> None:
        for name, member in members:
            inner = f"{path}.{name}" if path and name else path or name
            self.visit(member, inner, depth + 1)

    def _add(self, path: str, tensor: Tensor) -> None:
        name = path or "tensor"
        if name in self._found.tensors:
            raise BadPickle(f"two tensors would be named {name[:80]}")
        self._found.tensors[name] = tensor

    def _has_structure(self, value: list[object] | tuple[object, ...], depth: int) -> bool:
        """Whether a list holds tensors, dicts or objects, and so is more than a value."""
        self._count("", depth)
        for member in value:
            if isinstance(member, (dict, Opaque, Tensor)):
                return True
            if isinstance(member, (list, tuple)) and self._has_structure(member, depth + 1):
                return True
        return False

    def _keep(self, path: str, value: object, depth: int) -> None:
        try:
            self._found.extras[path or "value"] = self._plain(value, depth)
        except _NotPlain:
            return

    def _plain(self, value: object, depth: int) -> Plain:
        self._count("", depth)
        if value is None or isinstance(value, (bool, float, str, bytes)):
            return value
        if isinstance(value, int) and value.bit_length() <= 64:
            return value
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self._plain(member, depth + 1) for member in value]
        if isinstance(value, Global) and value.module == "torch":
            return value.dotted
        raise _NotPlain

    def _count(self, path: str, depth: int) -> None:
        self._visits += 1
        if self._visits > MAX_VISITS:
            raise BadPickle(f"its values unfold to more than {MAX_VISITS}")
        if depth > MAX_DEPTH:
            raise BadPickle(f"its values are nested more than {MAX_DEPTH} deep")
        if len(path) > MAX_NAME:
            raise BadPickle(f"a name of more than {MAX_NAME} characters")


class _NotPlain(Exception):
    """A value with behaviour, which is not kept."""


def _members(value: Opaque) -> Iterator[tuple[str, object]]:
    """Entries, items, attributes; a module's parameters, buffers and parts without their dict."""
    for key, member in value.entries.items():
        yield _word(key), member
    for index, member in enumerate(value.items):
        yield str(index), member
    is_module = isinstance(value.state.get("_parameters"), dict)
    for key, member in value.state.items():
        if is_module and key in _TRANSPARENT:
            yield "", member
        elif not is_module:
            yield _word(key), member


def _word(key: object) -> str:
    """A key as a part of a name."""
    if isinstance(key, str):
        return key
    if isinstance(key, (int, float)):
        return str(key)
    if isinstance(key, Global):
        return key.dotted
    return f"<{key.origin if isinstance(key, Opaque) else type(key).__name__}>"


def _without_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without a prefix that wrappers put before every name."""
    for prefix in PREFIXES:
        if tensors and all(name.startswith(prefix) and name != prefix for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors
