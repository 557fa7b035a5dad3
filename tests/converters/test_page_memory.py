"""Memory to read files into begins at a page, and is this process's own."""

from __future__ import annotations

import ctypes
import mmap
import os

import pytest

from converters.page_memory import page_memory


@pytest.mark.parametrize("nbytes", [0, 1, 5000, 1 << 20])
def test_it_begins_at_a_page_and_has_room_for_all(nbytes: int) -> None:
    memory = page_memory(nbytes)
    assert len(memory) >= nbytes
    assert ctypes.addressof(ctypes.c_char.from_buffer(memory)) % mmap.PAGESIZE == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_does_not_write_into_it() -> None:
    memory = page_memory(10)
    memory[:4] = b"mine"
    child = os.fork()
    if child == 0:
        memory[:4] = b"your"
        os._exit(0)
    os.waitpid(child, 0)
    assert memory[:4] == b"mine"
