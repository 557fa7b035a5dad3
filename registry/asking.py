"""What the library is asked: which assets there are, what is known of them, what it remembers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from converters.errors import AssetNotFound, CorruptFile
from converters.progress import SILENT, Progress
from registry.list_records import Beginning, Page
from registry.query import All, parse, parse_order
from registry.query.terms import Is, Missing, Not, Offline
from registry.searching import facets, finding, references
from registry.searching.at_once import AtOnce
from registry.searching.beginning import beginning
from registry.storage.opened import Opened
from registry.storage.stopping import stoppable
from registry.tables import listing

if TYPE_CHECKING:  # listing a library needs none of what reads assets whole, or their tensors
    from converters.weights import TensorDigest
    from registry.lineage import Descendant, Lineage
    from registry.records import Asset, Contradiction, Source
    from registry.scanning.scan_records import KnownFile
    from registry.sidecars.record import Origin
    from registry.tables.sidecar_rows import Key, Stamp
    from registry.tables.tensor_rows import Sharer
    from registry.tables.typed import Typed

_NEEDED_OF_A_BASE = frozenset({"unet", "vae", "text_encoder"})


class Asking(Opened):
    """Looking into the library, each time at one state of it."""

    def search(
        self, query: str = "", *, sort: str = "name", limit: int | None = None, offset: int = 0
    ) -> Page:
        """The rows that match a query, in an order ("-size" descends). Raises BadValue."""
        wanted, order = parse(query), parse_order(sort)
        with self._database.reading() as connection:
            total, ids = finding.page(connection, wanted, order, limit, offset)
            return Page(total, listing.asset_rows(connection, ids))

    def beginning(
        self, query: str, *, sort: str = "name", limit: int, progress: Progress = SILENT
    ) -> Beginning:
        """The first rows of a search, before it is known how many follow.

        Raises BadValue, and Cancelled soon after `progress` was.
        """
        wanted, order = parse(query), parse_order(sort)
        with self._database.reading() as connection, stoppable(connection, progress):
            total, ids = beginning(connection, wanted, order, limit)
            return Beginning(total, listing.asset_rows(connection, ids))

    @cached_property
    def at_once(self) -> AtOnce:
        """First rows without waiting, for the one thread that must not wait."""
        return AtOnce(self._database)

    def number(self, query: str, progress: Progress = SILENT) -> int:
        """How many assets match a query. Raises BadValue, and Cancelled."""
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
            return self._assets(connection, ids)

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
            found = self._assets(connection, [*numbers.values()])
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
        from registry.tables import reading

        with self._database.reading() as connection:
            return reading.sources(connection, service)

    def told_origins(self, service: str) -> tuple[tuple[int, Origin], ...]:
        """The pages of a service that files beside assets name, with the assets' numbers."""
        from registry.tables import sidecar_rows

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
            ids = finding.asset_ids(connection, terms, parse_order("id"))
            found = self._assets(connection, ids)
        return tuple(sorted(filter(_can_render, found), key=_as_base))

    def tensors(self, asset_id: int) -> Mapping[str, TensorDigest] | None:
        """The tensors of an asset by name, with shortened digests; None while they are not known.

        A table that cannot be read, or is of a newer program, counts as none.
        """
        from registry.tables import tensor_rows

        with self._database.reading() as connection:
            packed = tensor_rows.packed(connection, asset_id)
        return None if packed is None else _unpacked(packed)

    def component_tensors(self, asset_id: int) -> Mapping[str, Mapping[str, TensorDigest]]:
        """The same of the tensors of each component, as `converters.canonical` names them.

        Not all components need be known so: of models that older releases digested none is.
        """
        from registry.tables import tensor_rows

        with self._database.reading() as connection:
            packed = tensor_rows.packed_parts(connection, asset_id)
        parts = {name: _unpacked(table) for name, table in packed.items()}
        return {name: part for name, part in parts.items() if part is not None}

    def sharers(self, asset_id: int) -> Mapping[str, tuple[Sharer, ...]]:
        """The other assets that have a component of this one, by the component's name."""
        from registry.tables import tensor_rows

        with self._database.reading() as connection:
            return tensor_rows.sharers(connection, asset_id)

    def contradictions(self, asset_ids: Collection[int]) -> tuple[Contradiction, ...]:
        """The claims of assets that their bytes do not bear out."""
        from registry.tables import claim_rows

        with self._database.reading() as connection:
            return claim_rows.contradictions(connection, asset_ids)

    def preview_pictures(self) -> Mapping[int, tuple[str, ...]]:
        """The paths of all previews and thumbnails, by asset."""
        from registry.tables import reading

        with self._database.reading() as connection:
            return reading.preview_pictures(connection)

    def roots(self) -> tuple[str, ...]:
        """The folders that belong to the library."""
        from registry.tables import reading

        with self._database.reading() as connection:
            return reading.roots(connection, self._machine)

    def typed(self) -> tuple[Typed, ...]:
        """What users typed, asset by asset, in the order of names."""
        from registry.tables.typed import typed

        with self._database.reading() as connection:
            return typed(connection)

    def mounts(self) -> frozenset[str]:
        """Where disks were mounted when their files were seen."""
        from registry.tables import reading

        with self._database.reading() as connection:
            return reading.mounts(connection, self._machine)

    def known_files(self) -> Mapping[str, KnownFile]:
        """Every place the library remembers, by canonical path."""
        from registry.tables import reading

        with self._database.reading() as connection:
            return reading.known_files(connection, self._machine)

    def known_sidecars(self) -> Mapping[Key, Stamp]:
        """Every sidecar that was read, as it was then."""
        from registry.tables import sidecar_rows

        with self._database.reading() as connection:
            return sidecar_rows.stamps(connection, self._machine)

    def file_assets(self) -> Mapping[str, int]:
        """The numbers of the assets of all files, by canonical path."""
        from registry.tables import sidecar_rows

        with self._database.reading() as connection:
            return sidecar_rows.owners(connection, self._machine)

    def _get(self, connection: Connection, asset_id: int) -> Asset:
        found = self._assets(connection, [asset_id])
        if not found:
            raise AssetNotFound(f"there is no asset #{asset_id}")
        return found[0]

    def _assets(self, connection: Connection, ids: Sequence[int]) -> tuple[Asset, ...]:
        from registry.tables import reading

        return reading.assets(connection, ids, self._machine)


def _unpacked(table: bytes) -> Mapping[str, TensorDigest] | None:
    from converters.tensor_table import unpack

    try:
        return unpack(table)
    except CorruptFile:
        return None


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
