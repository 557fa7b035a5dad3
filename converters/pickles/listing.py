"""Every name a stream mentions, whether or not it can be followed that far.

The machine stops where a stream breaks; these listings go on. They decode linearly, keep the last
texts pushed so as to resolve STACK_GLOBAL, and look for pickles that begin anywhere inside a run of
bytes: after STOP, or inside a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from converters.pickles.opcodes import decode
from converters.pickles.values import BadPickle, Global

MAX_NAMES = 10_000
MAX_MEMO = 100_000
MAX_OPCODES = 6_000_000
"""Bounds on what a listing keeps; what lies beyond them is not listed."""

_MEMOIZE, _STACK_GLOBAL = 0x94, 0x93
_TEXT_CODES = b"X\x8c\x8dVSTU"
_NAME = re.compile(r"[A-Za-z_][\w.]*", re.ASCII)
_NO_ARGUMENTS = bytes(set(range(0x80)).difference(b"()}"))
_STARTS = re.compile(rb"\x80[\x00-\x05]|[ci](?=[A-Za-z_][\w.]*\n[A-Za-z_][\w.]*\n)")


def named(data: bytes, start: int = 0) -> tuple[Global, ...]:
    """Names imported by the opcodes from `start` to STOP or where decoding ends. Never raises."""
    return _distinct(_Listing(len(data)).read(data, start))


def hidden(data: bytes, start: int = 0) -> tuple[Global, ...]:
    """Plausible names imported by pickles that begin anywhere in `data` from `start` on.

    The work is bounded by the length of the data: of very many beginnings only some are followed.
    """
    listing = _Listing(1000 + len(data) - start)
    return _distinct(_plausible_names(listing, data, start))


def _plausible_names(listing: _Listing, data: bytes, start: int) -> Iterator[Global]:
    if _last_argument(data) < start:  # lines of words, which nothing calls
        return
    for match in _STARTS.finditer(data, start):
        yield from filter(plausible, listing.read(data, match.start()))
        if listing.budget <= 0:
            return


def _last_argument(data: bytes) -> int:
    """Where the last opcode stands that a call, or a change of an object, could take values from.

    What is called takes a tuple, what is changed a dict, objects of protocol 0 a mark; from
    protocol 2 on there are opcodes beyond ASCII.
    """
    return len(data.rstrip(_NO_ARGUMENTS)) - 1


def _distinct(names: Iterator[Global]) -> tuple[Global, ...]:
    found: dict[Global, None] = {}
    for name in names:
        found[name] = None
        if len(found) >= MAX_NAMES:
            break
    return tuple(found)


def may_hide(value: bytes) -> bool:
    """Whether `hidden` could find anything in the value: a cheap test for the many that cannot."""
    return b"\n" in value or b"\x93" in value


def plausible(name: Global) -> bool:
    """Whether module and name look like Python names: random bytes hardly ever do."""
    return bool(_NAME.fullmatch(name.module) and _NAME.fullmatch(name.name))


class _Listing:
    """Follows texts and the memo only as far as STACK_GLOBAL needs them."""

    def __init__(self, budget: int) -> None:
        self.budget = min(budget, MAX_OPCODES)
        self._texts: tuple[str, ...] = ()
        self._memo: dict[int, str] = {}

    def read(self, data: bytes, start: int) -> Iterator[Global]:
        self._forget()
        try:
            for code, number, payload, _ in decode(data, start):
                self.budget -= 1
                if self.budget <= 0:
                    return
                if code in b"ci":
                    module, _, name = payload.partition(b"\n")
                    yield Global(_text(module), _text(name))
                elif code == _STACK_GLOBAL and len(self._texts) == 2:
                    yield Global(*self._texts)
                else:
                    self._follow(code, number, payload)
        except BadPickle:
            return

    def _forget(self) -> None:
        self._texts = ()
        self._memo = {}

    def _follow(self, code: int, number: int, payload: bytes) -> None:
        if code in _TEXT_CODES:
            self._push(_text(payload.strip(b"'\"")))
        elif code == _MEMOIZE:
            self._keep(len(self._memo))
        elif code in b"pqr":
            self._keep(_index(number, payload))
        elif code in b"ghj":
            self._push(self._memo.get(_index(number, payload), ""))

    def _keep(self, index: int) -> None:
        if len(self._memo) < MAX_MEMO:
            self._memo[index] = self._texts[-1] if self._texts else ""

    def _push(self, text: str) -> None:
        self._texts = (*self._texts[-1:], text)


def _index(number: int, payload: bytes) -> int:
    return int(payload) if payload.isdigit() and len(payload) < 18 else number


def _text(payload: bytes) -> str:
    return str(payload, "utf-8", "backslashreplace")
