"""What the inert machine puts on its stack besides plain values: names, stand-ins, tensor recipes.

None of these has behaviour. A `Global` is only a name; an `Opaque` is what calling an unknown name
would have given; a `TensorRef` says which elements of which storage a tensor is.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_SHOWN = 200
"""Characters of a name that are shown."""


class BadPickle(Exception):
    """A stream that cannot be followed further. `truncated`: it ends inside an opcode."""

    def __init__(self, reason: str, *, truncated: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.truncated = truncated


@dataclass(frozen=True, slots=True)
class Global:
    """A name the stream asks to import: never looked up, only remembered."""

    module: str
    name: str

    @property
    def dotted(self) -> str:
        """`module.name`."""
        return f"{self.module}.{self.name}"

    @property
    def shown(self) -> str:
        """`module.name`, cut where a hostile file makes it endless."""
        dotted = self.dotted
        return dotted if len(dotted) <= MAX_SHOWN else f"{dotted[:MAX_SHOWN]}…"


class Opaque:
    """An inert stand-in for an object of an unknown class.

    `args` are what its constructor was given, `state` what BUILD was given, `entries` and `items`
    what was put into it as into a dict or a list.
    """

    __slots__ = ("args", "entries", "items", "origin", "state")

    def __init__(self, origin: str, args: object = ()) -> None:
        self.origin = origin
        self.args = args
        self.state: dict[object, object] = {}
        self.entries: dict[object, object] = {}
        self.items: list[object] = []


@dataclass(frozen=True, slots=True)
class StorageRef:
    """A storage of `numel` elements kept outside the pickle; `element` is None for raw bytes.

    `view` are offset and number of the elements meant, where that is only a part.
    """

    element: str | None
    key: str
    numel: int
    view: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A strided view of a storage; offset and strides count elements, `element` is torch's name.

    `unread` names the reason why its values cannot be given (sparse, quantised, conjugated).
    """

    storage: StorageRef
    element: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    unread: str | None = None


@dataclass(frozen=True, slots=True)
class UnreadTensor:
    """A tensor of a form that is recognised but not read, e.g. "a sparse tensor"."""

    what: str


class ArrayType:
    """numpy's dtype: `code` as in `f8`, `order` one of `<`, `>`, `|`, `=`."""

    __slots__ = ("code", "order")

    def __init__(self, code: str) -> None:
        self.order = code[0] if code[:1] in {"<", ">", "|", "="} else "<"
        self.code = code.lstrip("<>|=")


class Array:
    """A numpy array whose bytes lie inside the pickle; `data` is None until BUILD gives it."""

    __slots__ = ("data", "fortran", "shape", "type")

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self.type: ArrayType | None = None
        self.fortran = False
        self.data: bytes | None = None
