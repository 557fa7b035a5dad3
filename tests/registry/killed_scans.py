"""Scans that are there to be killed: one for each line of stdin.

Each is a fork of this process, so that it begins at once. A line is `URL\tFOLDER\tCALLS`: it scans
the folder, tags what is known meanwhile, and kills itself after so many calls of functions, of any
thread and of any sort; 0 lets it go on to its end. Every tag is told when it is kept, at the end
`done` with the number of calls there were, and `end` in any case.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from itertools import count

from registry.library import Library
from registry.scanning.scanner import scan


def work(url: str, folder: str, calls: int, number: int) -> None:
    done = count(1)

    def note(_frame: object, event: str, _argument: object) -> None:
        if event.endswith("call") and next(done) == calls:
            os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(note)
    sys.setprofile(note)
    with Library.open(url) as library:
        tagging = threading.Thread(target=tag_all, args=(library, number), daemon=True)
        tagging.start()
        scan(library, [folder])
        tagging.join()
    say(f"done\t{next(done)}")


def tag_all(library: Library, number: int) -> None:
    for asset in library.assets("-is:missing"):
        digest = asset.hashes["blake3"]
        if digest is not None:
            library.tag([asset.id], [f"round {number}"])
            say(f"{digest}\tround {number}")


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def main() -> None:
    for number, line in enumerate(sys.stdin):
        child = os.fork()
        if child == 0:
            url, folder, calls = line.rstrip("\n").split("\t")
            try:
                work(url, folder, int(calls), number)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        say("end")


if __name__ == "__main__":
    main()
