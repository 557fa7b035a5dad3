"""What services of models have, as the screen shows it; a row for each service.

Everything here blocks and is called in threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tui.cards import Ask, Card

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from converters.progress import Progress


@dataclass(frozen=True, slots=True)
class Service:
    """A service: its name, what can be asked, and how answers are sorted."""

    word: str
    name: str
    hint: str
    sorts: tuple[str, ...]


SERVICES = (
    Service(
        "civitai",
        "Civitai",
        "words, a number, or the address of a model",
        ("rated", "downloads", "likes", "newest", "oldest"),
    ),
    Service(
        "huggingface",
        "Hugging Face Hub",
        "words, or a repository: ORG/NAME, ORG/NAME@REVISION",
        ("downloads", "likes", "trending", "newest", "updated"),
    ),
)
KINDS = ("checkpoint", "lora", "embedding", "hypernetwork", "vae", "controlnet", "upscaler")
BASES = ("sd-1", "sd-2", "sdxl", "sd-3", "flux")


class Remote:
    """The services, for a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def search(self, ask: Ask, progress: Progress) -> tuple[Card, ...]:
        """What a service has. Raises BadValue, FileMissing, NotAvailable, Cancelled."""
        from tui.remote_civitai import OnCivitai
        from tui.remote_hub import OnHub

        searches: Mapping[str, Callable[[Ask, Progress], Iterator[Card]]] = {
            "civitai": OnCivitai(self._workspace).search,
            "huggingface": OnHub(self._workspace).search,
        }
        return tuple(searches[ask.service](ask, progress))

    def look_again(self, cards: Sequence[Card]) -> tuple[Card, ...]:
        """The same cards, with the assets of those that have come into the library meanwhile."""
        find = self._workspace.library.find_hash
        return tuple(
            replace(card, asset=find(card.sha256)) if card.sha256 and card.asset is None else card
            for card in cards
        )

    def updates(self, service: str, progress: Progress) -> tuple[Card, ...]:
        """What the library has of a service, and whether there is something newer.

        Raises NotAvailable, Cancelled.
        """
        from tui.remote_civitai import OnCivitai
        from tui.remote_hub import OnHub

        if service == "civitai":
            return tuple(OnCivitai(self._workspace).updates(progress))
        return tuple(OnHub(self._workspace).updates(progress))
