"""Keys typed ahead: each waits until the one before it has had its effect.

Who types fast, or through a slow connection, sends several keys at once. Textual gives all of them
to what has the keyboard at that moment: letters after the key of a dialog would be commands, those
after the Enter of a line would be added to it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic

from textual import events
from textual.app import App
from textual.dom import DOMNode
from textual.message import Message
from textual.worker import Worker

from tui.faults import Surviving

_ROUNDS = 2
"""A key that comes up to the program may have a line say something, which comes up after it."""
_LOOK_SECONDS = 0.01
_PATIENCE_SECONDS = 5.0
"""What follows a key may be lost."""
_AT_ONCE = frozenset({"ctrl+c", "ctrl+q"})


class Followed(Message):
    """Goes the way of a key behind it: what brings it to the program has had the key."""

    def __init__(self, by: DOMNode, rounds: int = _ROUNDS) -> None:
        super().__init__()
        self.by, self.rounds, self.until = by, rounds, monotonic() + _PATIENCE_SECONDS


class TypingAhead(Surviving, App[None]):
    """A program that takes one key after the other."""

    def __init__(self) -> None:
        super().__init__()
        self._typed: deque[events.Key] = deque()
        self._followed: Followed | None = None
        self._awaited: list[Worker[None]] = []
        self._looks_again = False

    @property
    def keys_are_done(self) -> bool:
        """Whether all that was typed had its effect."""
        return not self._typed and not self._is_followed

    def waits_for(self, worker: Worker[None]) -> None:
        """What is typed until `worker` ends is for what it brings: a dialog, other rows."""
        self._awaited = [*(each for each in self._awaited if not each.is_finished), worker]

    async def on_event(self, event: events.Event) -> None:
        """As in Textual; but fresh keys wait for each other."""
        if not isinstance(event, events.Key) or event.is_forwarded or event.key in _AT_ONCE:
            await super().on_event(event)
            return
        self._typed.append(event)
        if len(self._typed) == 1:
            await self._take()

    async def on_followed(self, message: Followed) -> None:
        """A key has had its effect, if this was the last round."""
        if message is not self._followed:
            return
        self._followed = None
        if message.rounds > 1:
            self._follow(message.by, message.rounds - 1)
        await self._take()

    def _follow(self, by: DOMNode, rounds: int = _ROUNDS) -> None:
        behind = Followed(by, rounds)
        if by.post_message(behind):
            self._followed = behind

    async def _take(self) -> None:
        while self._typed and self._is_ready:
            by = self.focused or self.screen
            await super().on_event(self._typed.popleft())
            self._follow(by)
        if self._typed and not self._looks_again:
            self._looks_again = True
            asyncio.get_running_loop().call_later(_LOOK_SECONDS, self.call_later, self._look)

    async def _look(self) -> None:
        self._looks_again = False
        await self._take()

    @property
    def _is_ready(self) -> bool:
        if not all(worker.is_finished for worker in self._awaited):
            return False
        return self.screen.is_mounted and not self._is_followed

    @property
    def _is_followed(self) -> bool:
        """Whether what follows a key is to come; who had the keyboard may be gone, and it, too."""
        behind = self._followed
        if behind is None or monotonic() > behind.until:
            return False
        return any(screen in behind.by.ancestors_with_self for screen in self.screen_stack)
