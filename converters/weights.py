"""What the digests of a file's tensors are kept in: columns, of which files can share the names.

Collections hold thousands of adapters of one structure: their names, types and shapes are one
`Listing`, and what is worked out for it is worked out once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, overload

from converters.dtypes import BY_LABEL

DIGEST_BYTES = 16
"""Kept of a tensor's digest. Shortened so, two of a billion tensors are taken for each other
with a chance of 10⁻²¹."""
CHECKSUM_BYTES = 4
CHECKED_BYTES = 256 << 10
"""Smaller tensors have a checksum, larger ones a digest, in models of both rules: so any two
tensors of one type and shape have something in common. A checksum takes half as long as a digest,
and of tensors so large nothing is felt of beginning and ending one."""


class TensorDigest(NamedTuple):
    """What stands for a tensor: the label of its type, its shape, and `digest`.

    That is the digest of all, its first `DIGEST_BYTES`, or, in models of small tensors, a checksum
    of `CHECKSUM_BYTES`. `other` is the checksum of a tensor with a digest, or the digest of one
    with a checksum, where it is known (`TensorDigests`).
    """

    dtype: str
    shape: tuple[int, ...]
    digest: bytes
    other: bytes = b""


class Listing:
    """Tensors by name, in the order of names, with `(label of the type, shape)` of each.

    Equal to itself alone, so it can be a key.
    """

    def __init__(self, kinds: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
        self.names = tuple(sorted(kinds))
        self.kinds = tuple(kinds[name] for name in self.names)

    @cached_property
    def places(self) -> Mapping[str, int]:
        """The place of each name."""
        return {name: place for place, name in enumerate(self.names)}

    @cached_property
    def written(self) -> tuple[int, ...]:
        """The places of the names in the order in which the safetensors library writes tensors."""
        ranks = [BY_LABEL[label].rank for label, _ in self.kinds]
        return tuple(sorted(range(len(ranks)), key=lambda place: -ranks[place]))

    @cached_property
    def checked(self) -> tuple[int, ...]:
        """The places of tensors that have a checksum by any rule."""
        return tuple(place for place, kind in enumerate(self.kinds) if is_checked(*kind))

    @cached_property
    def digested(self) -> tuple[int, ...]:
        """The places of tensors that have a digest by any rule."""
        return tuple(place for place, kind in enumerate(self.kinds) if not is_checked(*kind))

    @cached_property
    def heads(self) -> tuple[bytes, ...]:
        """What is hashed before the bytes of each tensor."""
        return tuple(head_of(*kind) for kind in self.kinds)

    @cached_property
    def encoded(self) -> tuple[bytes, ...]:
        """Each name in UTF-8 behind its length as four bytes, little endian."""
        return tuple(map(encoded, self.names))


def is_checked(label: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor is so small that it has a checksum by any rule. Blocks have digests."""
    dtype = BY_LABEL.get(label)
    return dtype is not None and math.prod(shape) * dtype.bits < 8 * CHECKED_BYTES


def head_of(label: str, shape: tuple[int, ...]) -> bytes:
    """What is hashed before a tensor's bytes."""
    return f"{label}\n{','.join(map(str, shape))}\n".encode("ascii")


def encoded(name: str) -> bytes:
    """A name in UTF-8 behind its length as four bytes, little endian."""
    data = name.encode("utf-8", "surrogatepass")
    return len(data).to_bytes(4, "little") + data


class Joined(Sequence[bytes]):
    """Digests of `width` bytes each, one after the other in one piece of memory.

    Thousands of files may wait with theirs to be recorded: as objects, millions of them.
    """

    def __init__(self, data: bytes, width: int) -> None:
        self.data = data
        self.width = width

    @overload
    def __getitem__(self, place: int) -> bytes: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[bytes]: ...
    def __getitem__(self, place: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        start = range(0, len(self.data), self.width)[place]
        return self.data[start : start + self.width]

    def __len__(self) -> int:
        return len(self.data) // self.width


class TensorDigests(Mapping[str, TensorDigest]):
    """The tensors of a file by name; `digests` are in the order of the listing.

    `others` are the checksums of those that are `listing.checked`, or, where `digests` are
    checksums, the digests of those that are `listing.digested`; None where nobody made them.
    """

    def __init__(
        self, listing: Listing, digests: Sequence[bytes], others: Joined | None = None
    ) -> None:
        self.listing = listing
        self.digests = digests
        self.others = others

    def __getitem__(self, name: str) -> TensorDigest:
        place = self.listing.places[name]
        other = self._other.get(place, b"")
        return TensorDigest(*self.listing.kinds[place], self.digests[place], other)

    @cached_property
    def _other(self) -> Mapping[int, bytes]:
        if self.others is None:
            return {}
        return dict(zip(others_of(self.listing, self.digests), self.others, strict=True))

    def __iter__(self) -> Iterator[str]:
        return iter(self.listing.names)

    def __len__(self) -> int:
        return len(self.listing.names)


def others_of(listing: Listing, digests: Sequence[bytes]) -> tuple[int, ...]:
    """The places of tensors that have the other sort, too."""
    are_checksums = isinstance(digests, Joined) and digests.width == CHECKSUM_BYTES
    return listing.digested if are_checksums else listing.checked


@dataclass(frozen=True, slots=True)
class Weights:
    """The digests of a file's tensors: of all, of each component, and of each tensor by its name.

    `whole` and those of components are 64 hex digits. `parts` are the tensors of each component
    under the names, and with the shapes, that its digest was made of.
    """

    whole: str
    components: Mapping[str, str]
    tensors: TensorDigests
    parts: Mapping[str, TensorDigests] = field(default_factory=dict)
