"""The command palette: everything the keys of the present screen do, by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from textual.command import DiscoveryHit, Hit, Hits, Provider

from tui.faults import hand_over
from tui.keymap import MARK, MOVE, READ, SIDE, SORT, Group, Key

_MOVING = (MARK, SIDE, MOVE, READ)


class KeyCommands(Provider):
    """The keys of the screen's groups as commands."""

    async def discover(self) -> Hits:
        """All of them, before anything is typed."""
        for key, said in self._known():
            yield DiscoveryHit(said, partial(self.screen.run_action, key.action), help=key.shown)

    async def search(self, query: str) -> Hits:
        """Those whose meaning is like what was typed."""
        matcher = self.matcher(query)
        for key, said in self._known():
            score = matcher.match(said)
            if score > 0:
                run = partial(self.screen.run_action, key.action)
                yield Hit(score, matcher.highlight(said), run, help=key.shown)

    def _known(self) -> Sequence[tuple[Key, str]]:
        try:
            return tuple(self._keys())
        except Exception as error:  # noqa: BLE001 - Textual would write it down where nobody looks
            hand_over(self.screen, error)
            return ()

    def _keys(self) -> Iterator[tuple[Key, str]]:
        """Keys and what they do, those first that do something; how to move, fingers know."""
        groups: tuple[Group, ...] = getattr(self.screen, "GROUPS", ())
        for group in sorted(groups, key=lambda group: group in _MOVING):
            before = "sort " if group is SORT else ""  # which its heading says in the help
            for key in group.keys:
                if "{key}" not in key.action:
                    yield key, before + key.meaning
