"""A fault of the program costs what was wanted, not the whole program.

Textual ends with a traceback whenever a handler, a timer, a worker or the drawing of a widget
raises. What came before, such as half an hour of marking, would be gone; so all of it arrives in
`AssetManagerApp._handle_exception` and becomes a failed job, which can be read and reported.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from functools import partial
from traceback import walk_tb
from types import FrameType
from typing import Any

from rich.segment import Segment
from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.message_pump import MessagePump
from textual.strip import Strip
from textual.widget import Widget

from tui.text import fit

_BEGINNINGS = (events.Compose, events.Mount)
"""What fails in these was never whole."""
_DRAWS = {"render", "render_line", "render_lines", "get_content_width", "get_content_height"}
_SAID = "could not be shown (J tells why)"


def hand_over(pump: MessagePump, error: Exception) -> None:
    """A fault to where all of them arrive."""
    pump.app._handle_exception(error)  # noqa: SLF001 - Textual's one place for what it cannot handle


class Surviving(MessagePump):
    """Handles its messages, and calls what is to be called next, whatever they raise.

    Comes before Textual's class among the bases. Without it Textual would stop to listen there.
    """

    async def _dispatch_message(self, message: Message) -> None:
        try:
            await super()._dispatch_message(message)
        except Exception as error:  # noqa: BLE001 - an outermost place: the program goes on
            hand_over(self, error)

    def call_next(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """As in Textual; what dialogs answer comes this way."""
        super().call_next(partial(self._try, callback, *args, **kwargs))

    async def _try(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        try:
            awaitable = callback(*args, **kwargs)
            if inspect.isawaitable(awaitable):
                await awaitable
        except Exception as error:  # noqa: BLE001 - an outermost place: the program goes on
            hand_over(self, error)


class Part(Surviving, Widget):
    """A widget of ours."""


def place(error: Exception) -> tuple[type[Exception], str, int]:
    """What tells a fault from others: its sort, and the line that raised it."""
    last = [(frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__)][-1:]
    return (type(error), *(last[0] if last else ("", 0)))


def begun(error: Exception) -> Widget | None:
    """The widget that could not begin because of this."""
    for frame, _ in walk_tb(error.__traceback__):
        is_first = isinstance(frame.f_locals.get("message"), _BEGINNINGS)
        return _widget(frame, {"_dispatch_message"} if is_first else {"_compose"})
    return None


def drawn(error: Exception) -> Widget | None:
    """The widget whose drawing or measuring raised this."""
    widgets = (_widget(frame, _DRAWS) for frame, _ in walk_tb(error.__traceback__))
    return next(reversed([widget for widget in widgets if widget is not None]), None)


def _widget(frame: FrameType, functions: Collection[str]) -> Widget | None:
    subject = frame.f_locals.get("self")
    is_it = isinstance(subject, Widget) and frame.f_code.co_name in functions
    return subject if is_it else None


def guard(widget: Widget) -> None:
    """From now on a fault in drawing `widget` costs the lines it is in, and no more is said.

    It is tried anew each time: what the widget shows then may be something else.
    """
    draw = widget.render_lines
    _replace(widget, "render_lines", partial(_lines, draw))
    for name in ("get_content_width", "get_content_height"):
        _replace(widget, name, partial(_measured, getattr(widget, name)))
    widget.screen.refresh(layout=True)


def stand_in(widget: Widget) -> None:
    """Have a line in the place of what could not begin."""
    _replace(widget, "render_lines", _said)


def _replace(widget: Widget, name: str, function: Callable[..., Any]) -> None:
    setattr(widget, name, function)


def _lines(draw: Callable[[Region], list[Strip]], crop: Region) -> list[Strip]:
    try:
        return draw(crop)
    except Exception:  # noqa: BLE001 - told when it was first met
        if crop.height == 1:
            return _said(crop)
    each = (Region(crop.x, y, crop.width, 1) for y in crop.line_range)
    return [strip for region in each for strip in _lines(draw, region)]


def _said(crop: Region) -> list[Strip]:
    line = Strip([Segment(fit(_SAID, crop.width))], crop.width)
    return [line, *[Strip.blank(crop.width)] * (crop.height - 1)]


def _measured(measure: Callable[..., int], container: Size, *more: Any) -> int:
    try:
        return measure(container, *more)
    except Exception:  # noqa: BLE001 - told when it was first met
        return 1
