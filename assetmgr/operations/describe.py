"""Assets of the library as the documents of the contract."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from registry.pictures import thumbnail_png

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from registry.records import Asset, Preview
    from registry.tables.tensor_rows import Sharer


def asset_json(asset: Asset) -> dict[str, object]:
    """The ASSET document of the contract; times are ISO 8601 in UTC."""
    return {
        "id": asset.id,
        "name": asset.name,
        "kind": asset.kind,
        "base": asset.base,
        "variant": asset.variant,
        "prediction": asset.prediction,
        "algorithm": list(asset.algorithm),
        "rank": asset.rank,
        "layout": asset.layout,
        "container": asset.container,
        "bytes": asset.bytes,
        "tensors": asset.tensors,
        "parameters": asset.parameters,
        "dtypes": dict(asset.dtypes),
        "components": components_json(asset),
        "confidence": asset.confidence,
        "evidence": list(asset.evidence),
        "problems": list(asset.problems),
        "hashes": dict(asset.hashes),
        "claims": [{**asdict(claim), "verified": asset.agrees(claim)} for claim in asset.claims],
        "files": [
            {"path": file.path, "state": file.state, "machine": file.machine}
            for file in asset.files
        ],
        "tags": list(asset.tags),
        "note": asset.note,
        "rating": asset.rating,
        "trigger_words": list(asset.trigger_words),
        "metadata": dict(asset.metadata),
        "sources": [asdict(source) for source in asset.sources],
        "derived_from": [asdict(derivation) for derivation in asset.derived_from],
        "preview": _preview_json(asset.preview),
        "sidecars": [sidecar.to_json() for sidecar in asset.sidecars],
        "verification": asdict(asset.verification),
        "safety": {
            "verdict": asset.safety.verdict.value,
            "imports": list(asset.safety.imports),
            "findings": list(asset.safety.findings),
        },
        "added": asset.added.isoformat(),
        "updated": asset.updated.isoformat(),
    }


def components_json(asset: Asset) -> list[dict[str, object]]:
    """The components with their digests; what was only counted with another one has no counts."""
    counted = [
        asdict(part) | {"digest": asset.component_digests.get(part.name)}
        for part in asset.components
    ]
    names = {part.name for part in asset.components}
    uncounted = [
        {"name": name, "tensors": None, "parameters": None, "digest": digest}
        for name, digest in asset.component_digests.items()
        if name not in names
    ]
    return [*counted, *uncounted]


def shown_json(asset: Asset, sharers: Mapping[str, Sequence[Sharer]]) -> dict[str, object]:
    """The document of `show`: with the other assets that have the same components."""
    parts = components_json(asset)
    for part in parts:
        part["shared_with"] = [other.id for other in sharers.get(str(part["name"]), ())]
    return asset_json(asset) | {"components": parts}


def _preview_json(preview: Preview | None) -> dict[str, object] | None:
    if preview is None:
        return None
    document = asdict(preview)
    document["thumbnail_png"] = preview.thumbnail and thumbnail_png(preview.thumbnail)
    document["checks"] = [asdict(check) for check in preview.checks]
    document["parameters"] = dict(preview.parameters)
    return document
