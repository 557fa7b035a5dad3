"""Room on the disk: assets to the trash, and copies that become links, with the way back.

Everything here blocks and is called in threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from tui.answers import summed, tell, title_of
from tui.forms import Answers, Field, Form, Planned
from tui.sections import Section, named, text
from tui.text import count, size
from tui.undo import Undos

if TYPE_CHECKING:
    from assetmgr.operations.failures import Failure
    from assetmgr.operations.trash import Discarded
    from assetmgr.workspace import Workspace
    from converters.progress import Progress
    from registry.records import Asset

_WAYS = (("hardlink", "hard links"), ("reflink", "files that share their blocks"))


class Clearing:
    """Forms that free room of a workspace's files."""

    def __init__(self, workspace: Workspace, undos: Undos) -> None:
        self._workspace, self._undos = workspace, undos

    def trash_form(self, assets: Sequence[Asset]) -> Form:
        """The files of assets and what lies beside them, to the trash of the system."""
        name = assets[0].name if len(assets) == 1 else count(len(assets), "asset")
        plan = partial(self._plan_trash, tuple(f"#{asset.id}" for asset in assets), name)
        return Form(f"Trash {name}", (), plan, "To the trash")

    def _plan_trash(self, references: Sequence[str], name: str, answers: Answers) -> Planned:
        from assetmgr.operations.trash import Discarded, plan_trash

        found = plan_trash(self._workspace, references)
        going = [each for each in found if isinstance(each, Discarded)]
        failures = [each for each in found if not isinstance(each, Discarded)]
        paths = [path for each in going for path in (each.path, *each.sidecars)]
        facts = (
            ("files", text(f"{len(going):,}")),
            ("size", text(size(sum(each.bytes for each in going)))),
            ("", text("tags, notes and previews stay; the trash gives files back", "$dim")),
        )
        sections = (Section("", facts), *named("Go", paths), *_failed(failures))
        work = partial(self._trash, going) if going else None
        return Planned(f"Trash of {name}", sections, work)

    def _trash(self, going: Sequence[Discarded], progress: Progress) -> str:
        from assetmgr.operations.trash import discard

        progress.stage("to the trash", len(going), "files")
        references = tuple(dict.fromkeys(f"#{each.asset}" for each in going))
        self._undos.later("the trash", partial(self._restore, references))
        done, failed = tell(discard(self._workspace, going), progress, 1)
        return summed(len(done), "in the trash (u brings them back)", failed)

    def restore_form(self, assets: Sequence[Asset]) -> Form:
        """Missing files that lie in the trash."""
        references = tuple(f"#{asset.id}" for asset in assets)
        plan = partial(self._plan_restore, references)
        return Form(title_of("Bring back", assets), (), plan, "Bring back")

    def _plan_restore(self, references: Sequence[str], answers: Answers) -> Planned:
        from assetmgr.operations.restore import Restored, plan_restore

        found = plan_restore(self._workspace, references)
        back = [each for each in found if isinstance(each, Restored)]
        failures = [each for each in found if not isinstance(each, Restored)]
        paths = [path for each in back for path in (each.path, *each.sidecars)]
        work = partial(self._restore, references) if back else None
        return Planned("From the trash", (*named("Come back", paths), *_failed(failures)), work)

    def _restore(self, references: Sequence[str], progress: Progress) -> str:
        from assetmgr.operations.restore import Restored, plan_restore, run_restore

        found = plan_restore(self._workspace, references)
        planned = [each for each in found if isinstance(each, Restored)]
        missed = [each for each in found if not isinstance(each, Restored)]
        progress.stage("out of the trash", len(planned), "files")
        back = chain(missed, run_restore(self._workspace, planned, progress))
        done, failed = tell(back, progress, 1)
        return summed(len(done), "back", failed)

    def link_form(self) -> Form:
        """Every copy becomes a link to the file that is kept; its bytes are compared first."""
        fields = (Field("way", "copies become", "hardlink", _WAYS),)
        return Form("Link duplicates", fields, self._plan_links, "Link")

    def _plan_links(self, answers: Answers) -> Planned:
        from assetmgr.operations.duplicates.pairs import Pair, Way, plan_links

        way = Way(answers["way"])
        found = list(plan_links(self._workspace, way))
        pairs = [each for each in found if isinstance(each, Pair)]
        failures = [each for each in found if not isinstance(each, Pair)]
        facts = (
            ("copies", text(f"{len(pairs):,}")),
            ("frees", text(size(sum(pair.frees for pair in pairs)))),
            ("", text("U gives every file its own bytes back", "$dim")),
        )
        names = named("Replaced", [pair.path for pair in pairs])
        work = partial(self._link, way.value, len(pairs)) if pairs else None
        sections = (Section("", facts), *names, *_failed(failures))
        return Planned("Links for duplicates", sections, work)

    def _link(self, way: str, total: int, progress: Progress) -> str:
        from assetmgr.operations.duplicates.links import link_duplicates
        from assetmgr.operations.duplicates.pairs import Way

        found = link_duplicates(self._workspace, Way(way), progress)
        progress.stage("linking", total, "files")
        done, failed = tell(found, progress, 1)
        return summed(len(done), "linked", failed)

    def unlink_form(self) -> Form:
        """Every file that was replaced by a link gets bytes of its own again."""
        return Form("Undo links", (), self._plan_unlink, "Give back")

    def _plan_unlink(self, answers: Answers) -> Planned:
        from assetmgr.operations.duplicates.links import Restored, undo_links

        found = list(undo_links(self._workspace, dry_run=True))
        files = [each for each in found if isinstance(each, Restored)]
        failures = [each for each in found if not isinstance(each, Restored)]
        facts = (
            ("files", text(f"{len(files):,}")),
            ("needs", text(size(sum(each.bytes for each in files)))),
        )
        names = named("Get their own bytes", [each.path for each in files])
        work = partial(self._unlink, len(files)) if files else None
        return Planned("Undoing of links", (Section("", facts), *names, *_failed(failures)), work)

    def _unlink(self, total: int, progress: Progress) -> str:
        from assetmgr.operations.duplicates.links import undo_links

        progress.stage("giving back", total, "files")
        done, failed = tell(undo_links(self._workspace, progress), progress, 1)
        return summed(len(done), "given back", failed)


def _failed(failures: Sequence[Failure]) -> Iterator[Section]:
    return named("Stay", [f"{each.path}: {each.error}" for each in failures], "$warning")
