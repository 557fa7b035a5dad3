"""`<stem>.cm-info.json` of StabilityMatrix.

Fields: `LykosAI/StabilityMatrix` `StabilityMatrix.Core/Models/ConnectedModelInfo.cs`.
"""

from __future__ import annotations

from registry.document import Fields
from registry.sidecars.civitai import number, origin, paragraphs, shown_hashes, title
from registry.sidecars.known import Known, Written
from registry.sidecars.record import Sidecar

OWNER = "stability-matrix"


def read(fields: Fields) -> Sidecar:
    """What the program remembers of a download."""
    return Sidecar(
        path=fields.path,
        owner=OWNER,
        name=fields.text("UserTitle")
        or title(fields.text("ModelName"), fields.text("VersionName")),
        description=paragraphs(fields.text("ModelDescription"), fields.text("VersionDescription")),
        trigger_words=fields.words("TrainedWords"),
        base=fields.text("BaseModel"),
        tags=fields.words("Tags"),
        rating=fields.inside("Stats").number("rating"),
        source=origin(
            fields.label("ModelId"),
            fields.label("VersionId"),
            file_id=fields.label("RemoteFileId"),
            author=fields.text("AuthorUsername"),
            urls=(fields.text("SourceUrl"),),
        ),
        claimed_hashes=fields.inside("Hashes").hashes(),
    )


def write(known: Known) -> Written:
    """What the program would have kept of a download; texts and lists that it expects are there."""
    source = known.source
    values = {
        "ModelId": number(source.model_id) if source else None,
        "VersionId": number(source.version_id) if source else None,
        "ModelName": known.title,
        "ModelDescription": known.description,
        "ModelType": known.site_type,
        "BaseModel": known.site_base,
        "Tags": list(known.tags) or None,
        "TrainedWords": list(known.trigger_words) or None,
        "AuthorUsername": source.author if source else None,
        "Hashes": shown_hashes(known, "SHA256", "CRC32", "BLAKE3"),
        "SourceUrl": source.urls[0] if source and source.urls else None,
    }
    defaults = {
        "ModelDescription": "",
        "Nsfw": False,
        "Tags": [],
        "VersionName": "",
        "ImportedAt": known.added,
        "TrainedWords": [],
    }
    return Written(values, defaults)
