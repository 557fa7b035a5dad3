"""Runs of the download queue that are there to be killed: one for each line of stdin.

Each is a fork of this process, so that it begins at once. A line is the number of calls (of those
that open, create, name, remove or connect anything) after which the run kills itself; 0 lets it go
on to its end. What is answered is `end` and how many such calls there were.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback

from huggingface_hub import file_download

from assetmgr.operations.downloads.run import run_downloads
from assetmgr.operations.hub.receive import bring
from assetmgr.sources.hub.files import connect
from assetmgr.sources.transfers import direct
from assetmgr.workspace import Workspace
from converters.identify import identify
from converters.pickles import unpickling
from registry import glance, pictures
from registry.library import Library
from registry.scanning import moves, recording
from registry.scanning.scanner import scan_file
from registry.tables import reading

PRELOADED = (Library, bring, connect, scan_file, direct, identify, unpickling, file_download)
PRELOADED_OF_THE_LIBRARY = (glance, moves, pictures, reading, recording)
CALLS = ("open", "os.", "socket.", "sqlite3.", "fcntl.", "shutil.")


def work(calls: int) -> None:
    count = 0

    def hook(event: str, _: object) -> None:
        nonlocal count
        if event.startswith(CALLS):
            count += 1
            if count == calls:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    with Workspace.open() as workspace:
        failed = [ended for ended in run_downloads(workspace) if ended.received is None]
    assert not failed, failed
    say(f"calls {count}")


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def main() -> None:
    import httpx

    httpx.Client().close()  # what is imported late is imported now
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                work(int(line))
                code = 0
            except BaseException:  # noqa: BLE001 - this process ends here
                traceback.print_exc()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        say(f"end {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main()
