"""Work spread over the machines of a Ray cluster: which part goes where, and what is tried again.

ray is an optional extra and is imported where it is used. What runs on the machines is a function
of ours, found there by its name: assetmgr of the same version must be installed on each.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Generic, NoReturn, TextIO, TypeVar

from converters.errors import NotAvailable
from converters.progress import SILENT, Progress

Item = TypeVar("Item")
Result = TypeVar("Result")

HERE = "local"
"""The address that means this machine alone."""
ATTEMPTS = 2
"""How often an item that a worker died at is tried alone before it is given up."""
SMALLEST_PART = 4
"""Items below which a part is not split: each part costs the start of a sampler."""
CORES_EACH = 4
POLL_SECONDS = 0.5

_NOT_FOUND = "failed to import on the worker"
"""What ray says of a function that a worker's Python does not find."""


@dataclass(frozen=True, slots=True)
class Lost:
    """An item whose worker died each time that it was tried."""

    cause: str


@dataclass(slots=True)
class _Part(Generic[Item]):
    """Items that one worker does one after the other, and how many of them it has given.

    `later` waits for another worker: the item that a worker died at is tried alone, because what it
    gave just before may have been lost with it.
    """

    items: Sequence[Item]
    done: int = 0
    deaths: int = 0
    later: Sequence[Item] = ()
    stream: Any = field(default=None, repr=False)

    def send(self, remote: Any) -> None:
        """Give the items to a worker, if there are any; else those that wait."""
        if not self.items:
            self.items, self.later = self.later, ()
            self.deaths = 0
        self.done = 0
        self.stream = remote.remote(self.items) if self.items else None

    def suspect(self) -> None:
        """Its worker died: only the item that it was at is next."""
        left = [*self.items[self.done :], *self.later]
        self.items, self.later = left[:1], left[1:]


def split(groups: Sequence[Sequence[Item]], slots: int) -> list[Sequence[Item]]:
    """The groups, the largest halved until there is one for each slot, or all are small."""
    parts = [group for group in groups if group]
    while 0 < len(parts) < slots:
        largest = max(parts, key=len)
        if len(largest) < 2 * SMALLEST_PART:
            break
        parts.remove(largest)
        middle = len(largest) // 2
        parts += [largest[:middle], largest[middle:]]
    return parts


def spread(
    address: str,
    groups: Sequence[Sequence[Item]],
    run: Callable[[Sequence[Item]], Iterator[Result]],
    progress: Progress = SILENT,
    *,
    on_gpu: bool = True,
) -> Iterator[tuple[Item, Result | Lost]]:
    """Each item with its result, as they come.

    `run` gives one result for each item of a part, in order; it is called on a machine with a GPU
    where there are any and `on_gpu` says that it wants one. A part whose worker dies goes on with
    what it has not given yet. Raises NotAvailable without ray or cluster, and Cancelled.
    """
    with _cluster(address) as cluster:
        room = _Room.of(cluster, on_gpu=on_gpu)
        remote = cluster.remote(run).options(
            num_cpus=room.cores, num_gpus=room.gpus, max_retries=0, num_returns="streaming"
        )
        parts = [_Part(items) for items in split(groups, room.slots)]
        progress.stage(
            f"on {room.machines} machines", sum(len(part.items) for part in parts), "items"
        )
        try:
            yield from _gathered(cluster, remote, deque(parts), progress)
        finally:
            for part in parts:
                if part.stream is not None:
                    cluster.cancel(part.stream, force=True)


def _gathered(
    cluster: Any, remote: Any, parts: deque[_Part[Item]], progress: Progress
) -> Iterator[tuple[Item, Any]]:
    for part in parts:
        part.send(remote)
    while parts:
        streams = {part.stream: part for part in parts}
        ready, _ = cluster.wait([*streams], num_returns=1, timeout=POLL_SECONDS, fetch_local=False)
        progress.advance(0)
        for stream in ready:
            part = streams[stream]
            for item, result in _next(cluster, remote, part):
                progress.advance()
                yield item, result
            if part.stream is None:
                parts.remove(part)


def _next(cluster: Any, remote: Any, part: _Part[Item]) -> Iterator[tuple[Item, Any]]:
    """The next item of a part with its result; none where its worker died and is replaced."""
    try:
        result = cluster.get(next(part.stream))
    except StopIteration:
        part.items = ()
        part.send(remote)
        return
    except cluster.exceptions.RayError as error:
        if isinstance(error, cluster.exceptions.RayTaskError):
            _raise_named(error)
        part.suspect()
        part.deaths += 1
        if part.deaths > ATTEMPTS:
            yield part.items[0], Lost(type(error).__name__)
            part.items = ()
        part.send(remote)
        return
    part.done += 1
    yield part.items[part.done - 1], result


def _raise_named(error: Exception) -> NoReturn:
    """Raises what a function raised there: a mistake of ours, unless it was not even found."""
    if _NOT_FOUND in str(error):
        raise NotAvailable(
            "a machine of the Ray cluster has no assetmgr of this version",
            hint="install it there, with the extra preview for renders",
        ) from error
    raise error


@dataclass(frozen=True, slots=True)
class _Room:
    """What each worker may use, and how many there can be at a time."""

    cores: int
    gpus: int
    slots: int
    machines: int

    @classmethod
    def of(cls, cluster: Any, *, on_gpu: bool) -> _Room:
        machines = [node["Resources"] for node in cluster.nodes() if node["Alive"]]
        able = [each for each in machines if each.get("CPU", 0) >= 1]
        if on_gpu and any(each.get("GPU", 0) >= 1 for each in able):
            able = [each for each in able if each.get("GPU", 0) >= 1]
            cores = min([CORES_EACH, *(each["CPU"] // each["GPU"] for each in able)])
            slots = sum(int(each["GPU"]) for each in able)
            return cls(max(1, int(cores)), 1, slots, len(able))
        if not able:
            raise NotAvailable("the Ray cluster has no machine with a free core")
        cores = int(min([CORES_EACH, *(each["CPU"] for each in able)]))
        return cls(cores, 0, sum(int(each["CPU"] // cores) for each in able), len(able))


@contextlib.contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """The library ray, connected. What was connected before is used and left as it is."""
    if importlib.util.find_spec("ray") is None:
        raise NotAvailable("spreading work needs ray", hint='pip install "assetmgr[ray]"')
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        yield ray
        return
    try:
        with contextlib.redirect_stdout(sys.stderr):
            _connect(ray, address)
        with contextlib.redirect_stdout(_OneVoice(sys.stdout)):
            yield ray
    finally:
        with contextlib.redirect_stdout(sys.stderr):
            ray.shutdown()


class _OneVoice(io.TextIOBase):
    """Standard output for the thread that made it; what others say, as ray's, goes to stderr."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._owner = threading.get_ident()

    @property
    def buffer(self) -> BinaryIO:
        """Where bytes go; only we write any."""
        return self._stream.buffer

    def write(self, text: str) -> int:
        """To the stream that this thread may write to."""
        ours = threading.get_ident() == self._owner
        return (self._stream if ours else sys.stderr).write(text)

    def flush(self) -> None:
        """Pass on what was written."""
        self._stream.flush()


def _connect(library: Any, address: str) -> None:
    here = {"include_dashboard": False} if address == HERE else {}
    try:
        library.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **here)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise NotAvailable(
            f"no Ray cluster answers at {address}: {_first_line(error)}",
            hint="start one with `ray start --head`, and --address=HOST:PORT on other machines",
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
