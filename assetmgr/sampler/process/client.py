"""The program's side of the sampler: starts the worker process, talks to it, outlives it.

The worker stays warm between jobs, because importing its libraries takes seconds and a loaded base
checkpoint serves many adapters. Cancelling a job ends the process; the next job starts another.
Nothing here imports torch. Pipes are read by threads, which works on every platform.
"""

from __future__ import annotations

import importlib.util
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from assetmgr.sampler.process.jobs import RenderJob, RenderOutcome
from assetmgr.sampler.process.messages import Outcome, Unreadable, deliver
from assetmgr.sampler.process.sheet_jobs import SheetJob, SheetOutcome
from converters.errors import AssetmgrError, NotAvailable
from converters.progress import SILENT, Progress

NEEDED = ("torch", "diffusers", "transformers")
"""Packages the worker imports; the last two come with the extra `preview`."""

POLL_SECONDS = 0.2
"""How long a cancellation may go unnoticed while the worker is silent."""
LAST_WORDS_SECONDS = 10.0
"""So long a dead worker's last words are waited for: what it started may keep its stderr open."""

FEW_CORES = 4

WORKER = (sys.executable, "-P", "-m", "assetmgr.sampler.process.worker")
"""The command of the worker process; `-P` keeps the current folder off its import path."""


class SamplerClient:
    """Renders jobs in a worker process, one at a time. Use as a context manager or `close` it."""

    def __init__(self, command: Sequence[str] = WORKER) -> None:
        self._command = command
        self._worker: _Worker | None = None
        self._turn = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def begin(self) -> None:
        """Have the process import its libraries while the first job is still being planned."""
        with self._turn:
            if self._worker is None and not _missing_packages():
                self._worker = _Worker(self._command)

    def render(self, job: RenderJob, progress: Progress = SILENT) -> RenderOutcome:
        """The outcome of one job.

        Raises NotAvailable when the extra packages or the device are missing, the errors of the
        model files, Cancelled when `progress` asks to stop, and AssetmgrError naming the subject
        when the worker dies.
        """
        outcome = self._ask(job.to_json(), job.subject.path, progress)
        if not isinstance(outcome, RenderOutcome):
            raise AssetmgrError("the sampler answered something else", path=job.subject.path)
        return outcome

    def draw(self, job: SheetJob, progress: Progress = SILENT) -> SheetOutcome:
        """The outcome of a sheet. Raises as `render`."""
        path = job.cells[0].subject.path
        outcome = self._ask(job.to_json(), path, progress)
        if not isinstance(outcome, SheetOutcome):
            raise AssetmgrError("the sampler answered something else", path=path)
        return outcome

    def _ask(self, line: str, path: str, progress: Progress) -> Outcome:
        """The answer to a job, which is about a file."""
        require_packages()
        with self._turn:
            worker = self._running(progress)
            try:
                return worker.ask(line, path, progress)
            finally:
                if worker.busy or not worker.alive:
                    self.close()

    def close(self) -> None:
        """End the worker, also in the middle of a job."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop()

    def _running(self, progress: Progress) -> _Worker:
        if self._worker is not None and not self._worker.alive:
            self.close()
        if self._worker is None:
            self._worker = _Worker(self._command)
        if self._worker.is_new:
            progress.stage("start the sampler", None, "steps")
        return self._worker


class _Worker:
    """A running worker process with the threads that read its pipes."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own module, a fixed command
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env=worker_environment(os.environ),
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._complaints: deque[str] = deque(maxlen=50)
        self._readers = (
            threading.Thread(target=self._read_lines, name="sampler-lines", daemon=True),
            threading.Thread(target=self._read_complaints, name="sampler-stderr", daemon=True),
        )
        for reader in self._readers:
            reader.start()
        self.busy = False
        """Whether a job was sent that has not been answered."""
        self.is_new = True
        """Whether no job was sent yet."""

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, job: str, path: str, progress: Progress) -> Outcome:
        self.busy, self.is_new = True, False
        try:
            _pipe(self._process.stdin).write(job + "\n")
            _pipe(self._process.stdin).flush()
        except OSError as error:  # the worker is gone; Windows says EINVAL instead of EPIPE
            raise self._death(path) from error
        while True:
            line = self._next_line(progress)
            if line is None:
                raise self._death(path)
            answer = _deliver(line, path, progress)
            if answer is not None:
                self.busy = False
                if isinstance(answer, AssetmgrError):
                    raise answer
                return answer

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            _close(_pipe(pipe))

    def _next_line(self, progress: Progress) -> str | None:
        """The next line of the worker, None at its end. Raises Cancelled."""
        while True:
            try:
                return self._lines.get(timeout=POLL_SECONDS)
            except queue.Empty:
                progress.advance(0)

    def _read_lines(self) -> None:
        for line in _pipe(self._process.stdout):
            self._lines.put(line)
        self._lines.put(None)

    def _read_complaints(self) -> None:
        for line in _pipe(self._process.stderr):
            self._complaints.append(line.rstrip())

    def _death(self, path: str) -> AssetmgrError:
        status = self._process.wait()
        self._readers[1].join(LAST_WORDS_SECONDS)
        words = next((line for line in reversed(self._complaints) if line.strip()), "")
        return AssetmgrError(
            f"the sampler stopped while rendering this ({_manner(status)})"
            + (f": {words}" if words else ""),
            path=path,
            hint="--low-vram and a smaller --size need less memory" if _killed(status) else None,
        )


def require_packages() -> None:
    """Raises NotAvailable when a package the worker needs is not installed."""
    missing = _missing_packages()
    if missing:
        raise NotAvailable(
            f"previews need {' and '.join(missing)}", hint='pip install "assetmgr[preview]"'
        )


def _missing_packages() -> list[str]:
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def worker_environment(surroundings: Mapping[str, str]) -> dict[str, str]:
    """The worker's environment: our packages importable, no network, no spinning threads.

    OpenMP's waiting threads spin by default; on few shared cores that makes a small render 20 to
    50 times slower. Huge pages halve the time a checkpoint takes to load on Linux, most of which
    are page faults. Settings the user made are kept.
    """
    home = str(Path(__file__).resolve().parents[3])
    paths = [home, *filter(None, [surroundings.get("PYTHONPATH")])]
    defaults = {
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    }
    cores = os.cpu_count() or 1
    if cores <= FEW_CORES:
        defaults["OMP_NUM_THREADS"] = str(cores)
    return {
        **defaults,
        **surroundings,
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONIOENCODING": "utf-8",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


def _deliver(line: str, path: str, progress: Progress) -> Outcome | AssetmgrError | None:
    try:
        return deliver(line, progress)
    except Unreadable as error:
        raise AssetmgrError(
            f"the sampler answered something unreadable: {error.line.strip()[:100]!r}",
            path=path,
        ) from error


def _pipe(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise RuntimeError("the worker was started without this pipe")
    return stream


def _close(stream: IO[str]) -> None:
    try:
        stream.close()
    except OSError:  # bytes for a process that is gone
        return


def _killed(status: int) -> bool:
    return status == -9


def _manner(status: int) -> str:
    """How a process ended, for a message."""
    if _killed(status):
        return "killed by the system, probably out of memory"
    return f"signal {-status}" if status < 0 else f"exit status {status}"
