"""Short waits of the screen (a search, an asset, a tag) that must neither block nor end it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from weakref import WeakKeyDictionary

from textual.message import Message
from textual.widget import Widget
from textual.worker import Worker

from converters.errors import AssetmgrError
from converters.progress import CancellableProgress
from tui.bridge import one_line
from tui.faults import hand_over
from tui.typing_ahead import TypingAhead


class Failed(Message):
    """Something asked in the background failed; the sentence goes up to the screen."""

    def __init__(self, sentence: str) -> None:
        super().__init__()
        self.sentence = sentence


class Latest:
    """The latest of several looks of a kind: whoever asks anew ends the one before."""

    def __init__(self) -> None:
        self._progress = CancellableProgress()

    def begin(self) -> CancellableProgress:
        """The progress of a new one."""
        self.stop()
        self._progress = CancellableProgress()
        return self._progress

    def stop(self) -> None:
        """Nobody waits for it any more."""
        self._progress.cancel()


Wait = Callable[[], Coroutine[None, None, None]]
"""Begun only when its turn comes: a coroutine object that is never begun would be complained of."""


def in_background(widget: Widget, work: Wait, *, group: str) -> Worker[None]:
    """Await `work` beside the screen; of one group of a widget only the latest goes on.

    The thread of an abandoned search ends by itself; its answer is dropped.
    """
    guarded: Wait = partial(_guarded, widget, work)
    return widget.run_worker(guarded, group=group, exclusive=True, exit_on_error=False)


def opening(widget: Widget, work: Wait, *, group: str) -> None:
    """Await `work`, which opens a dialog; keys typed meanwhile are for that."""
    hold_keys(widget, in_background(widget, work, group=group))


def hold_keys(widget: Widget, worker: Worker[None]) -> None:
    """Keys typed until `worker` ends are for what it brings."""
    app = widget.app
    assert isinstance(app, TypingAhead)
    app.waits_for(worker)


def in_turn(widget: Widget, work: Wait, *, group: str) -> None:
    """Await `work` after all that was asked before it of the same widget: none of it is dropped.

    For changes, of which a quick hand asks two before the first is done.
    """
    lock = _TURNS.setdefault(widget, asyncio.Lock())
    guarded: Wait = partial(_locked, lock, widget, work)
    _worker: Worker[None] = widget.run_worker(guarded, group=group, exit_on_error=False)


_TURNS: WeakKeyDictionary[Widget, asyncio.Lock] = WeakKeyDictionary()


async def _locked(lock: asyncio.Lock, widget: Widget, work: Wait) -> None:
    async with lock:
        await _guarded(widget, work)


async def _guarded(widget: Widget, work: Wait) -> None:
    try:
        await work()
    except AssetmgrError as error:
        widget.post_message(Failed(one_line(error)))
    except Exception as error:  # noqa: BLE001 - an outermost place: a fault must not end the program
        hand_over(widget, error)
