"""Scans in a process of their own that are there to be killed: one for each line of stdin.

Each is a fork of this process, so that it begins at once. What it was told to do is `URL\tFOLDER`;
it scans the folder and tags what is known meanwhile. Every tag is printed when it is kept. A second
line says that it was killed, or let go on to its end.
"""

from __future__ import annotations

import os
import sys
import threading
from itertools import count

from registry.library import Library
from registry.scanner import scan


def work(url: str, folder: str, number: int) -> None:
    with Library.open(url) as library:
        tagging = threading.Thread(target=tag_all, args=(library, number), daemon=True)
        tagging.start()
        scan(library, [folder])
        tagging.join()
    say("done")


def tag_all(library: Library, number: int) -> None:
    for asset in library.assets("-is:missing"):
        digest = asset.hashes["blake3"]
        if digest is not None:
            library.tag([asset.id], [f"round {number}"])
            say(f"{digest}\tround {number}")


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def main() -> None:
    say("ready")
    for number in count():
        line = sys.stdin.readline()
        if not line:
            return
        child = os.fork()
        if child == 0:
            try:
                work(*line.rstrip("\n").split("\t"), number)
            finally:
                os._exit(0)
        say(f"pid\t{child}")
        sys.stdin.readline()  # until then its number means no other process
        os.waitpid(child, 0)
        say("end")


if __name__ == "__main__":
    main()
