"""A fault of the program in a key or a message costs what that wanted, not the whole program.

Textual ends with a traceback whenever a handler raises. What came before, such as half an hour of
marking, would be gone; so it becomes a failed job, which can be read and reported.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from textual import events
from textual.message import Message
from textual.message_pump import MessagePump
from textual.widget import Widget

_BEGINNINGS = (events.Compose, events.Mount, events.Load)
"""What fails in these was never whole: there is nothing to go on with."""


class Fault(Message):
    """A handler raised what it should not."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class Surviving(MessagePump):
    """Handles its messages, and calls what is to be called next, whatever they raise.

    Comes before Textual's class among the bases.
    """

    async def _dispatch_message(self, message: Message) -> None:
        try:
            await super()._dispatch_message(message)
        except Exception as error:
            if isinstance(message, _BEGINNINGS):
                raise
            self.app.post_message(Fault(error))

    def call_next(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """As in Textual; what dialogs answer comes this way."""
        super().call_next(partial(self._try, callback, *args, **kwargs))

    async def _try(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        try:
            awaitable = callback(*args, **kwargs)
            if inspect.isawaitable(awaitable):
                await awaitable
        except Exception as error:  # noqa: BLE001 - an outermost place: the program goes on
            self.app.post_message(Fault(error))


class Part(Surviving, Widget):
    """A widget of ours that handles messages."""
