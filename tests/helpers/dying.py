"""The program as a process that dies at a step of its own, without a chance to clean up.

Where the system can, each is a fork of one process that has imported everything: it begins at once.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any

KILLED = 9


class Dying:
    """Runs command lines that die; `close` when no more are wanted."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(self, step: str, call: Sequence[str], *, after: bool) -> int:
        """The exit status of a command line that dies before or `after` a step.

        A step is a function, as `module:name` or `module:Class.name`.
        """
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        print(
            json.dumps([step, list(call), after, dict(os.environ)]), file=process.stdin, flush=True
        )
        return int(process.stdout.readline() or process.wait())

    def close(self) -> None:
        """End the process that the others come from."""
        if self._process is not None:
            self._process.communicate()
        self._process = None

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        return self._process


def _die(step: str, call: list[str], after: bool, environment: dict[str, str]) -> None:
    from assetmgr.cli.main import run

    os.environ.clear()
    os.environ.update(environment)
    module, _, path = step.partition(":")
    owner: Any = importlib.import_module(module)
    *owners, name = path.split(".")
    owner = attrgetter(owners[0])(owner) if owners else owner
    step_itself = getattr(owner, name)

    def dying(*arguments: Any, **options: Any) -> None:
        if after:
            step_itself(*arguments, **options)
        os._exit(KILLED)

    setattr(owner, name, dying)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until it dies
    os._exit(run(call))


def _serve() -> None:
    import registry.library  # noqa: F401 - imported once for all

    for line in sys.stdin:
        if not hasattr(os, "fork"):
            _die(*json.loads(line))
        child = os.fork()
        if child == 0:
            _die(*json.loads(line))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.stdout.write(f"{status}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        _serve()
