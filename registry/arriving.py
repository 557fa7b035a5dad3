"""What scans and downloads record: files, where they are, and what lies beside them."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from registry.scanning.places import find_root, within
from registry.storage.database import Database
from registry.storage.opened import Opened
from registry.storage.together import Together

if TYPE_CHECKING:  # looking at a library needs none of what records files
    from converters.bytesource import Fingerprint
    from registry.records import Asset, Source
    from registry.scanning.scan_records import Content, Recorded, ScannedFile, Settled
    from registry.tables.sidecar_rows import Found, Key


class Arriving(Opened):
    """Files come into the library, move in it and vanish."""

    def __init__(self, database: Database, machine: str = "") -> None:
        super().__init__(database, machine)
        self._record_file = Together(self._record_together)
        self._find_content = Together(self._find_together)

    def with_content(self, sha256: str) -> Asset | None:
        """The asset whose bytes have this SHA-256; None without one.

        What threads ask at once, each for a file that it is to bring, is looked up together.
        """
        return self._find_content(sha256)

    def _find_together(self, digests: Sequence[str]) -> list[Asset | None]:
        from registry.searching import references
        from registry.tables import reading

        with self._database.reading() as connection:
            numbers = references.with_sha256(connection, digests)
            assets = reading.assets(connection, [*numbers.values()], self._machine)
        found = dict(zip(numbers, assets, strict=True))
        return [found.get(sha256) for sha256 in digests]

    def record_file(self, scanned: ScannedFile, source: Source | None = None) -> Asset:
        """Record a file at its place; content that is known already keeps its user data.

        `source` is where it came from, where that is known. Those that threads bring at once are
        recorded together.
        """
        return self._record_file((scanned, source))

    def _record_together(
        self, arrived: Sequence[tuple[ScannedFile, Source | None]]
    ) -> tuple[Asset, ...]:
        from registry.scanning import moves, recording, scan_records
        from registry.tables import reading, writing

        with self._database.writing() as connection:
            files = [scanned for scanned, _ in arrived]
            recorded = [each for each in recording.record(connection, files, self._machine) if each]
            assert len(recorded) == len(files)  # their contents are given
            new = [each.file_id for each in recorded if each.outcome is scan_records.Outcome.ADDED]
            moves.settle(connection, new, [])
            ids = [each.asset_id for each in recorded]
            sources = zip(ids, (source for _, source in arrived), strict=True)
            told = [(asset_id, source) for asset_id, source in sources if source is not None]
            writing.record_sources(connection, told)
            return reading.assets(connection, ids, self._machine)

    def record_files(self, scanned: Sequence[ScannedFile]) -> tuple[Recorded | None, ...]:
        """Record several files in one transaction; moves among them are left to `settle`.

        A file without hashes is shown from now on, and waits for them. One without content was
        recorded before; it is None in the result when it was forgotten since.
        """
        from registry.scanning import recording

        with self._database.writing() as connection:
            return recording.record(connection, scanned, self._machine)

    def begin_naming(self) -> None:
        """Have the next look at what is known name all that older rules named."""
        from registry.scanning import naming

        with self._database.reading() as connection:
            if not naming.are_older(connection):
                return
        with self._database.writing() as connection:
            naming.begin(connection)

    def record_contents(self, told: Mapping[int, Content]) -> None:
        """Assets, by number, are what their files' headers tell now."""
        from registry.scanning import naming

        with self._database.writing() as connection:
            naming.name(connection, told)

    def restore(self, file_ids: Sequence[int]) -> None:
        """Missing files are back as they were."""
        from registry.tables import writing

        with self._database.writing() as connection:
            writing.restore(connection, file_ids)

    def set_offline(self, file_ids: Sequence[int]) -> None:
        """Files that are there lie on a disk that is not."""
        from registry.tables import writing

        with self._database.writing() as connection:
            writing.set_offline(connection, file_ids)

    def settle(self, new: Sequence[int], vanished: Sequence[int]) -> Settled:
        """Join new files with lost ones of the same content, mark the other vanished missing."""
        from registry.scanning import moves
        from registry.scanning.scan_records import Settled

        if not new and not vanished:
            return Settled(0, 0)
        with self._database.writing() as connection:
            return moves.settle(connection, new, vanished)

    def relocate(self, *files: tuple[int, str, Fingerprint]) -> None:
        """Files have other places, as they are there now; all that hangs on their assets stays."""
        from registry.scanning import moves

        with self._database.writing() as connection:
            for file_id, path, fingerprint in files:
                moves.relocate(connection, file_id, path, fingerprint)

    def dissolve(self, file_ids: Sequence[int]) -> None:
        """Places that are parts of a model now; assets go with them, if nobody wrote on them."""
        from registry.scanning import moves

        with self._database.writing() as connection:
            moves.dissolve(connection, file_ids)

    def record_sidecars(self, found: Sequence[Found]) -> None:
        """Keep what sidecars say, in one transaction."""
        from registry.tables import sidecar_rows

        with self._database.writing() as connection:
            sidecar_rows.record(connection, found, self._machine)
            self._refresh_told(connection, {sidecar.key.asset_id for sidecar in found})

    def forget_sidecars(self, keys: Sequence[Key]) -> None:
        """Sidecars are not there any more."""
        from registry.tables import sidecar_rows

        with self._database.writing() as connection:
            sidecar_rows.forget(connection, keys, self._machine)
            self._refresh_told(connection, {key.asset_id for key in keys})

    def add_root(self, path: str | os.PathLike[str]) -> str:
        """Make a folder part of the library, if none of its folders holds it; gives its real path.

        Raises FileMissing or FileUnreadable. Nothing is written, and no lock taken, for one that
        is part of it already.
        """
        from registry.tables import writing

        root = find_root(path)
        with self._database.reading() as connection:
            if self._has(connection, root):
                return root
        with self._database.writing() as connection:
            if not self._has(connection, root):  # another process was faster
                writing.add_root(connection, root, self._machine)
        return root

    def forget_root(self, root: str) -> None:
        """A folder is no part of the library any more, given by the path that it has in `roots`.

        Its files, those also where links in it lead, are forgotten as far as no other folder holds
        them; so are the assets that are nowhere else and on which nobody wrote anything.
        """
        from registry.scanning import moves
        from registry.scanning.walk import folders_of
        from registry.tables import reading, writing

        with self._database.reading() as connection:
            left = [each for each in reading.roots(connection, self._machine) if each != root]
        own = folders_of([root])
        held = folders_of(left) if len(own) > 1 else left  # only links lead into others
        with self._database.writing() as connection:
            writing.remove_root(connection, root, self._machine)
            moves.dissolve(
                connection,
                [
                    file.id
                    for path, file in reading.known_files(connection, self._machine).items()
                    if any(within(path, folder) for folder in own)
                    and not any(within(path, folder) for folder in held)
                ],
            )

    def _has(self, connection: Connection, root: str) -> bool:
        from registry.tables import reading

        return any(within(root, known) for known in reading.roots(connection, self._machine))

    def add_mounts(self, mounts: AbstractSet[str]) -> None:
        """Remember where disks are mounted; nothing is written when that is known."""
        from registry.tables import reading, writing

        with self._database.reading() as connection:
            if mounts <= reading.mounts(connection, self._machine):
                return
        with self._database.writing() as connection:
            new = mounts - reading.mounts(connection, self._machine)
            writing.add_mounts(connection, new, self._machine)

    def _refresh_told(self, connection: Connection, ids: Collection[int]) -> None:
        """What hangs on the sidecars of assets: the words that find them, and claims."""
        from registry.tables import claim_rows, writing

        writing.refresh_search(connection, [*ids])
        claim_rows.refresh_of_sidecars(connection, ids)
