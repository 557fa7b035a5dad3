"""The named functions whose result the machine knows without calling them.

They make plain containers, tensors over storages, and numpy scalars and arrays. Each takes the
pickled arguments, checks them and gives an inert value.

Sources: pytorch/pytorch `torch/_utils.py` (`_rebuild_*`: argument order, sizes and strides in
elements) and `torch/_tensor.py` (`_rebuild_from_type_v2`); numpy `numpy/_core/multiarray.py`
(`scalar`, `_reconstruct`) and `ndarray.__setstate__`; CPython `Lib/copyreg.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Protocol, TypeGuard

from converters.pickles.values import (
    Array,
    ArrayType,
    BadPickle,
    Global,
    Opaque,
    StorageRef,
    TensorRef,
    UnreadTensor,
)

MAX_DIMENSIONS = 64
MAX_SIZE = 1 << 62

Args = tuple[object, ...]


class Caller(Protocol):
    """What a constructor may ask of the machine."""

    def call(self, target: object, args: object) -> object:
        """Call another name, as inertly as any."""

    def key(self, value: object) -> object:
        """Check a key or set member."""

    def spend(self, amount: int) -> None:
        """Charge memory."""

    def look_into(self, value: bytes) -> None:
        """Note the names of pickles inside a value."""


Constructor = Callable[[Caller, Args], object]


# -- plain containers ------------------------------------------------------------------------------


def _mapping(caller: Caller, args: Args) -> object:
    """OrderedDict, dict, Counter: of nothing, of a mapping, or of pairs."""
    source = args[0] if args else ()
    if isinstance(source, dict):
        caller.spend(96 * len(source))
        return dict(source)
    if not isinstance(source, (list, tuple)):
        return Opaque("a mapping", args)
    caller.spend(96 * len(source))
    entries: dict[object, object] = {}
    for pair in source:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise BadPickle("a mapping is made of something that is not pairs")
        entries[caller.key(pair[0])] = pair[1]
    return entries


def _default_mapping(caller: Caller, args: Args) -> object:
    return _mapping(caller, args[1:])


def _sequence(caller: Caller) -> Callable[[Args], list[object] | None]:
    def items_of(args: Args) -> list[object] | None:
        source = args[0] if args else ()
        if not isinstance(source, (list, tuple, set, frozenset)):
            return None
        caller.spend(8 * len(source))
        return list(source)

    return items_of


def _list(caller: Caller, args: Args) -> object:
    items = _sequence(caller)(args)
    return Opaque("builtins.list", args) if items is None else items


def _tuple(caller: Caller, args: Args) -> object:
    items = _sequence(caller)(args)
    return Opaque("builtins.tuple", args) if items is None else tuple(items)


def _set(caller: Caller, args: Args) -> object:
    items = _sequence(caller)(args)
    if items is None:
        return Opaque("builtins.set", args)
    caller.spend(64 * len(items))
    return {caller.key(item) for item in items}


def _frozenset(caller: Caller, args: Args) -> object:
    members = _set(caller, args)
    return frozenset(members) if isinstance(members, set) else members


def _encode(caller: Caller, args: Args) -> object:
    """`_codecs.encode(text, "latin1")`: how protocol 2 spells bytes."""
    text, encoding = (*args, "utf-8", "")[:2]
    if not isinstance(text, str) or encoding not in {"latin1", "latin-1", "utf-8", "utf8", "ascii"}:
        return Opaque("_codecs.encode", args)
    caller.spend(len(text))
    try:
        encoded = text.encode(str(encoding))
    except UnicodeEncodeError:
        raise BadPickle("a text has characters its encoding lacks") from None
    caller.look_into(encoded)
    return encoded


def _bytes(caller: Caller, args: Args) -> object:
    source = args[0] if args else b""
    if isinstance(source, str):
        return _encode(caller, args)
    if isinstance(source, (bytes, bytearray)):
        caller.spend(len(source))
        return bytes(source)
    return b"" if source in ((), []) else Opaque("builtins.bytes", args)


def _bytearray(caller: Caller, args: Args) -> object:
    made = _bytes(caller, args)
    return bytearray(made) if isinstance(made, bytes) else made


def _complex(_caller: Caller, args: Args) -> object:
    real, imaginary = (*args, 0.0, 0.0)[:2]
    if isinstance(real, (int, float)) and isinstance(imaginary, (int, float)):
        try:
            return complex(real, imaginary)
        except OverflowError:
            raise BadPickle("a complex number beyond range") from None
    return Opaque("builtins.complex", args)


def _plain(_caller: Caller, args: Args) -> object:
    """`int(x)`, `float(x)`, `str(x)` of a value that is one already; also `torch.Size`."""
    if len(args) == 1 and isinstance(args[0], (int, float, str, tuple)):
        return args[0]
    return Opaque("a plain value", args)


def _device(_caller: Caller, args: Args) -> object:
    return ":".join(str(part)[:40] for part in args if isinstance(part, (str, int)))


def _reconstructor(caller: Caller, args: Args) -> object:
    """`copyreg._reconstructor(class, base, state)`: how protocols 0 and 1 make objects."""
    _expect(args, 3, "copyreg._reconstructor")
    made, base, state = args[:3]
    built = caller.call(made, () if state is None else (state,))
    if isinstance(built, Opaque) and isinstance(base, Global) and isinstance(state, dict):
        built.entries.update(state)
    return built


def _new_object(caller: Caller, args: Args) -> object:
    """`copyreg.__newobj__(class, *args)`."""
    _expect(args, 1, "copyreg.__newobj__")
    return caller.call(args[0], args[1:])


# -- tensors ---------------------------------------------------------------------------------------


def _tensor(_caller: Caller, args: Args) -> object:
    """(storage, offset, size, stride[, requires_grad, hooks[, metadata]]), also the oldest form."""
    _expect(args, 4, "_rebuild_tensor")
    metadata = args[6] if len(args) > 6 else None
    return _view(args, None, metadata)


def _typed_tensor(_caller: Caller, args: Args) -> object:
    """As `_tensor`, with the dtype before the metadata and a storage of raw bytes."""
    _expect(args, 7, "_rebuild_tensor_v3")
    metadata = args[7] if len(args) > 7 else None
    return _view(args, element_of(args[6]), metadata)


def _view(args: Args, element: str | None, metadata: object) -> TensorRef:
    storage, offset, size, stride = args[:4]
    if not isinstance(storage, StorageRef):
        raise BadPickle("a tensor over something that is not a storage")
    shape, strides = _counts(size, "size"), _counts(stride, "stride")
    if len(shape) != len(strides):
        raise BadPickle(f"a tensor of {len(shape)} sizes and {len(strides)} strides")
    element = element or storage.element
    if element is None:
        raise BadPickle("a tensor over raw bytes without an element type")
    flags = isinstance(metadata, dict) and (metadata.get("conj") or metadata.get("neg"))
    unread = "a conjugated or negated view" if flags else None
    return TensorRef(storage, element, _count(offset, "offset"), shape, strides, unread)


def _first(_caller: Caller, args: Args) -> object:
    """A parameter or buffer is its tensor."""
    _expect(args, 1, "_rebuild_parameter")
    return args[0]


def _from_type(caller: Caller, args: Args) -> object:
    """(function, class, arguments, state): a tensor subclass or a tensor with attributes."""
    _expect(args, 3, "_rebuild_from_type_v2")
    return caller.call(args[0], args[2])


def _from_numpy(_caller: Caller, args: Args) -> object:
    """(array, dtype, device, requires_grad)."""
    _expect(args, 1, "_rebuild_device_tensor_from_numpy")
    return args[0]


def _unread(what: str) -> Constructor:
    def make(_caller: Caller, _args: Args) -> object:
        return UnreadTensor(what)

    return make


def element_of(dtype: object) -> str:
    """Give torch's name of an element type given as the name `torch.float16`. Raises BadPickle."""
    if isinstance(dtype, Global) and dtype.module == "torch":
        return dtype.name
    raise BadPickle("an element type that is not one of torch's")


# -- numpy -----------------------------------------------------------------------------------------

_SCALARS = {
    "f2": "e", "f4": "f", "f8": "d", "b1": "?",
    "i1": "b", "i2": "h", "i4": "i", "i8": "q",
    "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
}  # fmt: skip


def _array_type(_caller: Caller, args: Args) -> object:
    code = args[0] if args else None
    return ArrayType(code) if isinstance(code, str) else Opaque("numpy.dtype", args)


def _scalar(_caller: Caller, args: Args) -> object:
    """(dtype, bytes): the plain number it is."""
    kind, raw = (*args, None, None)[:2]
    letter = _SCALARS.get(kind.code) if isinstance(kind, ArrayType) else None
    data = raw_bytes(raw)
    if letter is None or not isinstance(kind, ArrayType) or data is None:
        return Opaque("numpy scalar", args)
    try:
        return struct.unpack((">" if kind.order == ">" else "<") + letter, data)[0]
    except struct.error:
        raise BadPickle("a numpy scalar of the wrong length") from None


def _array(_caller: Caller, _args: Args) -> object:
    """`_reconstruct(ndarray, (0,), b"b")`; BUILD gives shape, type and bytes."""
    return Array()


def _array_from_buffer(_caller: Caller, args: Args) -> object:
    """`_frombuffer(bytes, dtype, shape, order)` of protocol 5."""
    _expect(args, 4, "numpy _frombuffer")
    array = Array()
    set_array_state(array, (1, args[2], args[1], args[3] == "F", args[0]))
    return array


def set_array_state(target: Array | ArrayType, state: object) -> None:
    """BUILD on a dtype: (version, order, …); an array: (version, shape, dtype, fortran, bytes)."""
    if not isinstance(state, tuple):
        return
    if isinstance(target, ArrayType):
        if len(state) > 1 and isinstance(state[1], str):
            target.order = state[1][:1]
        return
    if len(state) == 5:
        target.shape = _counts(state[1], "shape")
        target.type = state[2] if isinstance(state[2], ArrayType) else None
        target.fortran = bool(state[3])
        target.data = raw_bytes(state[4])


def raw_bytes(value: object) -> bytes | None:
    """Bytes, also where Python 2 left them as text; None for anything else."""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else None


# -- checks ----------------------------------------------------------------------------------------


def _expect(args: Args, count: int, name: str) -> None:
    if len(args) < count:
        raise BadPickle(f"{name} with {len(args)} arguments")


def is_count(value: object) -> TypeGuard[int]:
    """A whole number that a size, stride or offset can be."""
    return type(value) is int and 0 <= value < MAX_SIZE


def _count(value: object, what: str) -> int:
    if not is_count(value):
        raise BadPickle(f"a tensor whose {what} is not a number from 0 on")
    return value


def _counts(values: object, what: str) -> tuple[int, ...]:
    if not isinstance(values, (tuple, list)) or len(values) > MAX_DIMENSIONS:
        raise BadPickle(f"a tensor whose {what} is not a short list of numbers")
    return tuple(_count(value, what) for value in values)


def _under(modules: Iterable[str], names: dict[str, Constructor]) -> dict[str, Constructor]:
    return {f"{module}.{name}": make for module in modules for name, make in names.items()}


CONSTRUCTORS: dict[str, Constructor] = {
    **_under(
        ("collections",),
        {
            "OrderedDict": _mapping,
            "Counter": _mapping,
            "defaultdict": _default_mapping,
            "deque": _list,
        },
    ),
    **_under(
        ("builtins", "__builtin__"),
        {
            "dict": _mapping,
            "list": _list,
            "tuple": _tuple,
            "set": _set,
            "frozenset": _frozenset,
            "bytes": _bytes,
            "bytearray": _bytearray,
            "complex": _complex,
            "int": _plain,
            "long": _plain,
            "float": _plain,
            "bool": _plain,
            "str": _plain,
            "unicode": _plain,
        },
    ),
    **_under(("_codecs",), {"encode": _encode}),
    **_under(
        ("copyreg", "copy_reg"), {"_reconstructor": _reconstructor, "__newobj__": _new_object}
    ),
    **_under(
        ("torch._utils",),
        {
            "_rebuild_tensor": _tensor,
            "_rebuild_tensor_v2": _tensor,
            "_rebuild_tensor_v3": _typed_tensor,
            "_rebuild_parameter": _first,
            "_rebuild_parameter_with_state": _first,
            "_rebuild_device_tensor_from_numpy": _from_numpy,
            "_rebuild_device_tensor_from_cpu_tensor": _first,
            "_rebuild_sparse_tensor": _unread("a sparse tensor"),
            "_rebuild_qtensor": _unread("a quantised tensor"),
            "_rebuild_meta_tensor_no_storage": _unread("a tensor without values"),
            "_rebuild_nested_tensor": _unread("a nested tensor"),
            "_rebuild_wrapper_subclass": _unread("a tensor of a wrapper class"),
        },
    ),
    **_under(
        ("torch._tensor",), {"_rebuild_from_type_v2": _from_type, "_rebuild_from_type": _from_type}
    ),
    **_under(("torch",), {"Size": _plain, "device": _device}),
    **_under(("torch.nn.parameter", "torch.nn"), {"Parameter": _first}),
    **_under(("torch.serialization",), {"_get_layout": _plain}),
    **_under(
        ("numpy.core.multiarray", "numpy._core.multiarray"),
        {"scalar": _scalar, "_reconstruct": _array},
    ),
    **_under(("numpy.core.numeric", "numpy._core.numeric"), {"_frombuffer": _array_from_buffer}),
    **_under(("numpy",), {"dtype": _array_type}),
}
"""Dotted name -> what calling it gives."""
