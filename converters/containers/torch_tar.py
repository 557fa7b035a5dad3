"""torch.save of the 0.1 versions: a tar with the members `storages`, `tensors` and `pickle`.

`storages` is a pickled count, then per storage a pickled (key, location, class), the number of
elements (8 bytes) and the elements; then a pickled list of views (key, root key, offset, numel).
`tensors` is a pickled count, then per tensor a pickled (key, storage key, class), the number of
dimensions (8 bytes, of which 4 count), sizes, strides and offset (8 bytes each). `pickle` is the
object; its persistent ids are those keys. Nothing is unpacked: the bytes stay where they are.

Source: pytorch/pytorch `torch/serialization.py` (`_legacy_load`, `legacy_load`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from converters.bytesource import ByteSource
from converters.containers.model import NOT_INSPECTED, Container, Model, inspected
from converters.containers.pickle_streams import stream_at
from converters.containers.tar_members import read_members
from converters.containers.torch_model import broken_pickle, torch_model
from converters.containers.torch_tensors import Stored, storage_nbytes, storage_ref
from converters.errors import FileProblem, UnsupportedFile
from converters.pickles.constructors.arguments import MAX_DIMENSIONS, is_count
from converters.pickles.machine import Persistent
from converters.pickles.safety import after_stop, judge
from converters.pickles.unpickling import Unpickled, no_persistent_ids
from converters.pickles.values import BadPickle, Global, StorageRef, TensorRef
from converters.pickles.verdict import Finding, Verdict
from converters.statedict import Extent

MEMBERS = ("storages", "tensors", "pickle")
MAX_OBJECTS = 20_000
"""Storages or tensors in one file."""


def read_torch_tar(source: ByteSource) -> Model:
    """Open a torch tar file from its headers and pickles alone.

    Raises UnsupportedFile for other tar archives, CorruptFile or TruncatedFile for broken ones.
    """
    try:
        members = read_members(source)
        if not members.keys() >= {*MEMBERS}:
            raise UnsupportedFile("is a tar archive, but not one of torch", path=source.name)
    except FileProblem as error:
        raise inspected(error, NOT_INSPECTED) from None
    parts = _Parts()
    storages, tensors, pickle = (_Member(members[name], parts.streams) for name in MEMBERS)
    broken: BadPickle | None = None
    try:
        parts.read_storages(storages)
        parts.read_tensors(tensors)
    except BadPickle as error:
        broken = error
    # The object is followed even then: what it would run belongs into the report.
    try:
        value = pickle.unpickled(parts.persistent)
    except BadPickle as error:
        value, broken = None, broken or error
    safety = judge(parts.streams, _findings([storages, tensors, pickle], broken))
    if broken is not None:
        raise broken_pickle(source, safety, broken)
    return torch_model(source, Container.TORCH_TAR, value, parts.find, safety=safety)


@dataclass(slots=True)
class _Member:
    """A member read from front to back; every pickle met on the way is noted in `streams`."""

    extent: Extent
    streams: list[Unpickled]
    position: int = 0

    def unpickled(self, persistent: Persistent = no_persistent_ids) -> object:
        """The value of the next pickle. Raises BadPickle."""
        begin = self.extent.offset
        stream, end = stream_at(
            self.extent.source, begin + self.position, begin + self.extent.nbytes, persistent
        )
        self.streams.append(stream)
        self.position = end - begin
        if stream.stopped is not None:
            raise stream.stopped
        return stream.value

    def count(self) -> int:
        """A pickled number of objects. Raises BadPickle."""
        value = self.unpickled()
        if not is_count(value) or value > MAX_OBJECTS:
            raise BadPickle(f"a number of objects that is not one up to {MAX_OBJECTS}")
        return value

    def integers(self, count: int) -> tuple[int, ...]:
        """`count` numbers of 8 bytes. Raises BadPickle."""
        return struct.unpack(f"<{count}q", self.take(8 * count).read())

    def take(self, nbytes: int) -> Extent:
        """The next bytes, unread. Raises BadPickle where the member ends before them."""
        begin = self.position
        if begin + nbytes > self.extent.nbytes:
            raise BadPickle(f"a member ends {begin + nbytes - self.extent.nbytes} bytes too early")
        self.position += nbytes
        return Extent(self.extent.source, self.extent.offset + begin, nbytes)


@dataclass(slots=True)
class _Parts:
    """The tables that the object's persistent ids refer to."""

    streams: list[Unpickled] = field(default_factory=list)
    storages: dict[int, StorageRef] = field(default_factory=dict)
    stored: dict[str, Stored] = field(default_factory=dict)
    tensors: dict[int, TensorRef] = field(default_factory=dict)

    def read_storages(self, member: _Member) -> None:
        for _ in range(member.count()):
            key, _, kind = _values(member.unpickled(), 3)
            if not isinstance(kind, Global):
                raise BadPickle("a storage without a class")
            (numel,) = member.integers(1)
            if not is_count(numel):
                raise BadPickle(f"a storage of {numel} elements")
            storage = storage_ref(kind.name, str(_key(key)), numel, None)
            self.storages[_key(key)] = storage
            self.stored[storage.key] = Stored.at(member.take(storage_nbytes(storage)))
        views = member.unpickled()
        if not isinstance(views, list) or len(views) > MAX_OBJECTS:
            raise BadPickle("views of storages that are not a list")
        for view in views:
            self._add_view(*_values(view, 4))

    def _add_view(self, key: object, root: object, offset: object, numel: object) -> None:
        whole = self._storage(root)
        if whole.view is not None or not is_count(offset) or not is_count(numel):
            raise BadPickle(f"a view of storage {whole.key} that is not part of it")
        if offset + numel > whole.numel:
            raise BadPickle(f"a view that reaches outside storage {whole.key}")
        part = StorageRef(whole.element, whole.key, whole.numel, (offset, numel))
        self.storages[_key(key)] = part

    def read_tensors(self, member: _Member) -> None:
        for _ in range(member.count()):
            key, storage, _ = _values(member.unpickled(), 3)
            ref = self._storage(storage)
            dimensions = int.from_bytes(member.take(8).read()[:4], "little", signed=True)
            if not 0 <= dimensions <= MAX_DIMENSIONS:
                raise BadPickle(f"a tensor of {dimensions} dimensions")
            numbers = member.integers(2 * dimensions + 1)
            if ref.element is None or not all(map(is_count, numbers)):
                raise BadPickle("a tensor whose sizes are not numbers from 0 on")
            shape, stride = numbers[:dimensions], numbers[dimensions:-1]
            self.tensors[_key(key)] = TensorRef(ref, ref.element, numbers[-1], shape, stride)

    def persistent(self, identity: object) -> object:
        """A tensor or storage by its key; a class with its source text, which is not read."""
        if isinstance(identity, tuple) and identity and isinstance(identity[0], Global):
            return identity[0]
        key = _key(identity)
        return self.tensors[key] if key in self.tensors else self._storage(key)

    def find(self, key: str) -> Stored:
        return self.stored[key]

    def _storage(self, key: object) -> StorageRef:
        try:
            return self.storages[_key(key)]
        except KeyError:
            raise BadPickle(f"a tensor over storage {_key(key)}, which is not there") from None


def _values(value: object, count: int) -> tuple[object, ...]:
    if not isinstance(value, (tuple, list)) or len(value) != count:
        raise BadPickle(f"an entry that is not of {count} values")
    return tuple(value)


def _key(value: object) -> int:
    """A key: a number, or its digits."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20:
        return int(value)
    if is_count(value):
        return value
    raise BadPickle("a key that is not a number")


def _findings(members: list[_Member], broken: BadPickle | None) -> list[Finding]:
    """What stands after the last pickle of each member, unless reading stopped before."""
    if broken is not None:
        return [(Verdict.SUSPICIOUS, f"the archive cannot be followed: {broken.reason}")]
    found: list[Finding] = []
    for member in members:
        rest = member.take(min(member.extent.nbytes - member.position, 1 << 20))
        found += after_stop(rest.read(), 0)
    return found
