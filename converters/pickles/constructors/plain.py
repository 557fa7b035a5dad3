"""Constructors of plain containers, texts, bytes and numbers, and of objects through `copyreg`.

Source: CPython `Lib/copyreg.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from converters.pickles.constructors.arguments import Args, Caller, Constructor, expect, under
from converters.pickles.values import BadPickle, Global, Opaque


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
    expect(args, 3, "copyreg._reconstructor")
    made, base, state = args[:3]
    built = caller.call(made, () if state is None else (state,))
    if isinstance(built, Opaque) and isinstance(base, Global) and isinstance(state, dict):
        built.entries.update(state)
    return built


def _new_object(caller: Caller, args: Args) -> object:
    """`copyreg.__newobj__(class, *args)`."""
    expect(args, 1, "copyreg.__newobj__")
    return caller.call(args[0], args[1:])


CONSTRUCTORS: dict[str, Constructor] = {
    **under(
        ("collections",),
        {
            "OrderedDict": _mapping,
            "Counter": _mapping,
            "defaultdict": _default_mapping,
            "deque": _list,
        },
    ),
    **under(
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
    **under(("_codecs",), {"encode": _encode}),
    **under(("copyreg", "copy_reg"), {"_reconstructor": _reconstructor, "__newobj__": _new_object}),
    **under(("torch",), {"Size": _plain, "device": _device}),
    **under(("torch.serialization",), {"_get_layout": _plain}),
}
