"""Pickles that are not torch's: anything that pickle.dump wrote.

They are not read as models, but they are inspected: the refusal carries the verdict.
"""

from __future__ import annotations

from collections.abc import Iterator

from converters.bytesource import ByteSource
from converters.containers.model import InspectedUnsafe, InspectedUnsupported
from converters.containers.torch_tensors import persistent_object
from converters.errors import FileProblem
from converters.pickles.safety import after_stop, judge
from converters.pickles.unpickling import Unpickled, unpickle
from converters.pickles.values import BadPickle, Opaque
from converters.pickles.verdict import Finding, SafetyReport, Verdict

FIRST_LOOK = 1 << 20
MAX_LOOK = 32 << 20
MAX_STREAMS = 64


def safety_of_pickles(source: ByteSource) -> SafetyReport:
    """The verdict on the pickles that follow one another from the file's first byte."""
    data = source.pread(0, min(FIRST_LOOK, source.size))
    streams = list(_streams(data))
    if len(data) < source.size and _is_cut(streams):
        data = source.pread(0, min(MAX_LOOK, source.size))
        streams = list(_streams(data))
    return judge(streams, _rest(data, streams, whole=len(data) == source.size))


def refusal_of_pickle(source: ByteSource, what: str) -> FileProblem:
    """The error for a pickle file that is not read: UnsafeFile when it is dangerous."""
    safety = safety_of_pickles(source)
    if safety.verdict is Verdict.DANGEROUS:
        return InspectedUnsafe(
            f"is {what} that must not be loaded: {safety.findings[0]}",
            path=source.name,
            safety=safety,
        )
    return InspectedUnsupported(f"is {what}, which is not read", path=source.name, safety=safety)


def _streams(data: bytes) -> Iterator[Unpickled]:
    position = 0
    for _ in range(MAX_STREAMS):
        stream = unpickle(data, position, _outside)
        yield stream
        position = stream.end
        if stream.stopped is not None or position >= len(data):
            return


def _outside(identity: object) -> object:
    try:
        return persistent_object(identity)
    except BadPickle:
        return Opaque("an object outside the stream", identity)


def _is_cut(streams: list[Unpickled]) -> bool:
    stopped = streams[-1].stopped
    return stopped is not None and stopped.truncated


def _rest(data: bytes, streams: list[Unpickled], *, whole: bool) -> Iterator[Finding]:
    if _is_cut(streams) and not whole:
        yield Verdict.SUSPICIOUS, f"only the first {len(data) >> 20} MB were inspected"
    elif streams[-1].stopped is None:
        yield from after_stop(data, streams[-1].end)
