"""The only door to the library: find, read and record assets. Safe to use from several threads."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from sqlalchemy import Connection

from converters.bytesource import Fingerprint
from converters.errors import AssetNotFound, BadValue, CorruptFile
from converters.progress import SILENT, Progress
from converters.statedict import Plain
from registry import (
    claim_rows,
    facets,
    finding,
    reading,
    references,
    sidecar_rows,
    tensor_rows,
    writing,
)
from registry.beginning import beginning
from registry.database import Database
from registry.places import find_root, within
from registry.query import All, parse, parse_order
from registry.query.terms import Is, Missing, Not, Offline
from registry.records import (
    Asset,
    Beginning,
    Contradiction,
    KnownFile,
    Outcome,
    Page,
    Parent,
    Preview,
    Recorded,
    ScannedFile,
    Settled,
    Source,
)
from registry.sidecar_rows import Found, Key, Stamp
from registry.stopping import stoppable
from registry.tensor_rows import Sharer
from registry.text import fold
from registry.together import Together

if TYPE_CHECKING:  # listing a library needs none of what reads tensors or records files
    from converters.weights import TensorDigest, Weights
    from registry.lineage import Descendant, Lineage
    from registry.sidecars.record import Origin

HIGHEST_RATING = 5
_NEEDED_OF_A_BASE = frozenset({"unet", "vae", "text_encoder"})


class Library:
    """A library in a database. Use as a context manager, or call `close`.

    Every method may raise LibraryUnusable (corrupt, locked, read-only, newer than the program);
    methods taking a number raise AssetNotFound.
    """

    def __init__(self, database: Database, machine: str = "") -> None:
        self._database = database
        self._machine = machine
        self._record_file = Together(self._record_together)

    @property
    def name(self) -> str:
        """What the database is called: a path, or its URL without the password."""
        return self._database.name

    @classmethod
    def open(cls, url: str, machine: str = "") -> Self:
        """Open the library at a SQLAlchemy URL (`sqlite:////path/library.db`); create it if new.

        Folders and files belong to a `machine`, which needs a name when several share a database.
        """
        return cls(Database(url), machine)

    def close(self) -> None:
        """Release the database."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def search(
        self,
        query: str = "",
        *,
        sort: str = "name",
        limit: int | None = None,
        offset: int = 0,
        total: int | None = None,
    ) -> Page:
        """The rows that match a query, in an order ("-size" descends). Raises BadValue.

        Whoever knows how many match gives their `total`; then they are not counted again.
        """
        wanted, order = parse(query), parse_order(sort)
        with self._database.reading() as connection:
            if total is None and (limit is not None or offset):
                total = finding.count(connection, wanted)
            ids = finding.asset_ids(connection, wanted, order, limit, offset, total)
            return Page(len(ids) if total is None else total, reading.asset_rows(connection, ids))

    def beginning(
        self, query: str, *, sort: str = "name", limit: int, progress: Progress = SILENT
    ) -> Beginning:
        """The first rows of a search, before it is known how many follow. As `search`."""
        wanted, order = parse(query), parse_order(sort)
        with self._database.reading() as connection, stoppable(connection, progress):
            ids, total = beginning(connection, wanted, order, limit)
            return Beginning(total, reading.asset_rows(connection, ids))

    def number(self, query: str, progress: Progress = SILENT) -> int:
        """How many assets match a query. Raises BadValue."""
        wanted = parse(query)
        with self._database.reading() as connection, stoppable(connection, progress):
            return finding.count(connection, wanted)

    def assets(
        self, query: str = "", *, sort: str = "name", limit: int | None = None, offset: int = 0
    ) -> tuple[Asset, ...]:
        """As `search`, but all that is known of each asset."""
        wanted, order = parse(query), parse_order(sort)
        with self._database.reading() as connection:
            ids = finding.asset_ids(connection, wanted, order, limit, offset)
            return reading.assets(connection, ids, self._machine)

    def get(self, asset_id: int) -> Asset:
        """Everything known of one asset. Raises AssetNotFound."""
        with self._database.reading() as connection:
            return self._get(connection, asset_id)

    def find(self, reference: str) -> Asset:
        """The asset with this path, #ID, hash or hash prefix of 6+ digits, or exact name.

        Raises AssetNotFound, or AmbiguousAsset listing the candidates.
        """
        with self._database.reading() as connection:
            asset_id = references.resolve(connection, reference, self._machine)
            return self._get(connection, asset_id)

    def names(self, beginning: str, limit: int) -> tuple[str, ...]:
        """The names of assets that begin so, whatever their case, each once and in order."""
        with self._database.reading() as connection:
            return references.names(connection, beginning, limit)

    def find_hash(self, digest: str) -> int | None:
        """The number of the asset whose bytes have this BLAKE3 or SHA-256; None without one."""
        with self._database.reading() as connection:
            return references.with_digest(connection, digest)

    def with_sha256(self, digests: Sequence[str]) -> Mapping[str, Asset]:
        """The assets whose bytes have these SHA-256, by them; others are left out."""
        with self._database.reading() as connection:
            numbers = references.with_sha256(connection, digests)
            found = reading.assets(connection, [*numbers.values()], self._machine)
            return dict(zip(numbers, found, strict=True))

    def lineage(self, asset_id: int) -> Lineage:
        """What an asset was made from, generation by generation, and what was made from it."""
        from registry.lineage import lineage

        with self._database.reading() as connection:
            return lineage(connection, asset_id)

    def made_of(self, sha256: str) -> tuple[Descendant, ...]:
        """What was made from a file with these bytes, which the library may not know itself."""
        from registry.lineage import made_of

        with self._database.reading() as connection:
            return made_of(connection, sha256)

    def sources(self, service: str) -> tuple[tuple[int, Source], ...]:
        """The numbers of the assets that came from a service, and how that names them."""
        with self._database.reading() as connection:
            return reading.sources(connection, service)

    def told_origins(self, service: str) -> tuple[tuple[int, Origin], ...]:
        """The pages of a service that files beside assets name, with the assets' numbers."""
        with self._database.reading() as connection:
            return sidecar_rows.origins(connection, service)

    def kinds(self) -> Mapping[str, int]:
        """How many assets there are of each kind."""
        return self.facets()["kind"]

    def facets(
        self, query: str = "", progress: Progress = SILENT
    ) -> Mapping[str, Mapping[str, int]]:
        """How many of the assets that match have each kind, base, safety, verdict, algorithm, tag.

        What most have comes first. Assets without preview have the verdict `none`.
        """
        wanted = parse(query)
        with self._database.reading() as connection, stoppable(connection, progress):
            return facets.count(connection, wanted)

    def bases(self, base: str = "sd-1") -> tuple[Asset, ...]:
        """Present, complete checkpoints of a family that adapters can be tried on, best first."""
        terms = All((Is("kind", "checkpoint"), Is("base", base), Not(Missing()), Not(Offline())))
        with self._database.reading() as connection:
            ids = finding.asset_ids(connection, terms, parse_order("id"), None, 0)
            found = reading.assets(connection, ids, self._machine)
        return tuple(sorted(filter(_can_render, found), key=_as_base))

    def tag(
        self, asset_ids: Iterable[int], add: Iterable[str] = (), remove: Iterable[str] = ()
    ) -> None:
        """Add and remove tags; tags are kept in lower case. Raises BadValue for an empty tag."""
        ids, added, removed = list(asset_ids), _tags(add), _tags(remove)
        with self._database.writing() as connection:
            writing.require(connection, ids)
            writing.set_tags(connection, ids, added, removed)

    def note(self, asset_id: int, text: str | None) -> None:
        """Keep a note on an asset; None or an empty text removes it."""
        with self._database.writing() as connection:
            writing.require(connection, [asset_id])
            writing.touch(connection, asset_id, note=(text or "").strip() or None)

    def rate(self, asset_id: int, rating: int | None) -> None:
        """Rate an asset from 0 to 5. Raises BadValue."""
        if rating is not None and not 0 <= rating <= HIGHEST_RATING:
            raise BadValue(f"a rating is a number from 0 to {HIGHEST_RATING}, not {rating}")
        with self._database.writing() as connection:
            writing.require(connection, [asset_id])
            writing.touch(connection, asset_id, rating=rating)

    def record_file(self, scanned: ScannedFile, source: Source | None = None) -> Asset:
        """Record a file at its place; content that is known already keeps its user data.

        `source` is where it came from, where that is known. Those that threads bring at once are
        recorded together.
        """
        return self._record_file((scanned, source))

    def _record_together(
        self, arrived: Sequence[tuple[ScannedFile, Source | None]]
    ) -> tuple[Asset, ...]:
        from registry import moves, recording

        with self._database.writing() as connection:
            files = [scanned for scanned, _ in arrived]
            recorded = [each for each in recording.record(connection, files, self._machine) if each]
            assert len(recorded) == len(files)  # their contents are given
            new = [each.file_id for each in recorded if each.outcome is Outcome.ADDED]
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
        from registry import recording

        with self._database.writing() as connection:
            return recording.record(connection, scanned, self._machine)

    def restore(self, file_ids: Sequence[int]) -> None:
        """Missing files are back as they were."""
        with self._database.writing() as connection:
            writing.restore(connection, file_ids)

    def set_offline(self, file_ids: Sequence[int]) -> None:
        """Files that are there lie on a disk that is not."""
        with self._database.writing() as connection:
            writing.set_offline(connection, file_ids)

    def settle(self, new: Sequence[int], vanished: Sequence[int]) -> Settled:
        """Join new files with lost ones of the same content, mark the other vanished missing."""
        from registry import moves

        with self._database.writing() as connection:
            return moves.settle(connection, new, vanished)

    def relocate(self, file_id: int, path: str, fingerprint: Fingerprint) -> None:
        """A file has another place, as it is there now; all that hangs on its asset stays."""
        from registry import moves

        with self._database.writing() as connection:
            moves.relocate(connection, file_id, path, fingerprint)

    def dissolve(self, file_ids: Sequence[int]) -> None:
        """Places that are parts of a model now; assets go with them, if nobody wrote on them."""
        from registry import moves

        with self._database.writing() as connection:
            moves.dissolve(connection, file_ids)

    def known_files(self) -> Mapping[str, KnownFile]:
        """Every place the library remembers, by canonical path."""
        with self._database.reading() as connection:
            return reading.known_files(connection, self._machine)

    def known_sidecars(self) -> Mapping[Key, Stamp]:
        """Every sidecar that was read, as it was then."""
        with self._database.reading() as connection:
            return sidecar_rows.stamps(connection, self._machine)

    def file_assets(self) -> Mapping[str, int]:
        """The numbers of the assets of all files, by canonical path."""
        with self._database.reading() as connection:
            return sidecar_rows.owners(connection, self._machine)

    def record_sidecars(self, found: Sequence[Found]) -> None:
        """Keep what sidecars say, in one transaction."""
        with self._database.writing() as connection:
            sidecar_rows.record(connection, found, self._machine)
            self._refresh_told(connection, {sidecar.key.asset_id for sidecar in found})

    def forget_sidecars(self, keys: Sequence[Key]) -> None:
        """Sidecars are not there any more."""
        with self._database.writing() as connection:
            sidecar_rows.forget(connection, keys, self._machine)
            self._refresh_told(connection, {key.asset_id for key in keys})

    def contradictions(self, asset_ids: Collection[int]) -> tuple[Contradiction, ...]:
        """The claims of assets that their bytes do not bear out."""
        with self._database.reading() as connection:
            return claim_rows.contradictions(connection, asset_ids)

    def record_derived(
        self,
        asset_id: int,
        parents: Sequence[Parent],
        operation: str,
        parameters: Mapping[str, Plain],
        version: str | None = None,
    ) -> None:
        """Record what an asset was made from, by a version of the program.

        Saying the same twice changes nothing.
        """
        with self._database.writing() as connection:
            writing.require(connection, [asset_id])
            for parent in parents:
                writing.record_derived(connection, asset_id, parent, operation, parameters, version)

    def record_source(self, asset_id: int, source: Source) -> None:
        """Record where an asset came from. Saying the same twice changes nothing."""
        with self._database.writing() as connection:
            writing.require(connection, [asset_id])
            writing.record_sources(connection, [(asset_id, source)])

    def record_preview(self, asset_id: int, preview: Preview) -> None:
        """Keep the newest preview of an asset."""
        with self._database.writing() as connection:
            writing.require(connection, [asset_id])
            writing.record_preview(connection, asset_id, preview)

    def record_verification(
        self, asset_id: int, *, integrity: str | None = None, structure: str | None = None
    ) -> None:
        """Keep what a check of the file found; None leaves what is known."""
        checks = {"integrity": integrity, "structure": structure}
        found = {name: result for name, result in checks.items() if result is not None}
        with self._database.writing() as connection:
            writing.require(connection, [asset_id])
            writing.record_verification(connection, asset_id, found)

    def preview_pictures(self) -> Mapping[int, tuple[str, ...]]:
        """The paths of all previews and thumbnails, by asset."""
        with self._database.reading() as connection:
            return reading.preview_pictures(connection)

    def record_weights(self, asset_id: int, weights: Weights) -> None:
        """Keep the digests of an asset's tensors and components."""
        with self._database.writing() as connection:
            writing.require(connection, [asset_id])
            writing.touch(connection, asset_id, weights=weights.whole)
            tensor_rows.record(connection, {asset_id: weights})

    def tensors(self, asset_id: int) -> Mapping[str, TensorDigest] | None:
        """The tensors of an asset by name, with shortened digests; None while they are not known.

        A table that cannot be read, or is of a newer program, counts as none.
        """
        from converters.tensor_table import unpack

        with self._database.reading() as connection:
            packed = tensor_rows.packed(connection, asset_id)
        try:
            return None if packed is None else unpack(packed)
        except CorruptFile:
            return None

    def sharers(self, asset_id: int) -> Mapping[str, tuple[Sharer, ...]]:
        """The other assets that have a component of this one, by the component's name."""
        with self._database.reading() as connection:
            return tensor_rows.sharers(connection, asset_id)

    def forget(self, asset_ids: Iterable[int]) -> None:
        """Remove assets with all that was written on them; their files are not touched."""
        ids = list(asset_ids)
        with self._database.writing() as connection:
            writing.require(connection, ids)
            writing.forget(connection, ids)

    def roots(self) -> tuple[str, ...]:
        """The folders that belong to the library."""
        with self._database.reading() as connection:
            return reading.roots(connection, self._machine)

    def add_root(self, path: str | os.PathLike[str]) -> str:
        """Make a folder part of the library, if none of its folders holds it; gives its real path.

        Raises FileMissing or FileUnreadable.
        """
        root = find_root(path)
        with self._database.writing() as connection:
            if not any(within(root, known) for known in reading.roots(connection, self._machine)):
                writing.add_root(connection, root, self._machine)
        return root

    def _refresh_told(self, connection: Connection, ids: Collection[int]) -> None:
        """What hangs on the sidecars of assets: the words that find them, and claims."""
        writing.refresh_search(connection, [*ids])
        claim_rows.refresh_of_sidecars(connection, ids)

    def _get(self, connection: Connection, asset_id: int) -> Asset:
        found = reading.assets(connection, [asset_id], self._machine)
        if not found:
            raise AssetNotFound(f"there is no asset #{asset_id}")
        return found[0]


def _tags(names: Iterable[str]) -> tuple[str, ...]:
    """Tags as they are kept: folded, each once."""
    tags = tuple(dict.fromkeys(fold(name).strip() for name in names))
    if not all(tags):
        raise BadValue("a tag needs at least one letter")
    return tags


def _can_render(asset: Asset) -> bool:
    names = {component.name for component in asset.components}
    return names >= _NEEDED_OF_A_BASE and not asset.problems and asset.path is not None


def _as_base(asset: Asset) -> tuple[bool, bool, int, bool, int]:
    """Plain models before variants, working before failed ones, full ones before slim ones.

    Among equals an original comes before what was made from it.
    """
    full = sum(part.parameters for part in asset.components if part.name in _NEEDED_OF_A_BASE)
    failed = asset.verification.render == "failed"
    return asset.variant is not None, failed, -full, bool(asset.derived_from), asset.id
