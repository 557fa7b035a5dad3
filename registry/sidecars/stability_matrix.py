"""`<stem>.cm-info.json` of StabilityMatrix.

Fields: `LykosAI/StabilityMatrix` `StabilityMatrix.Core/Models/ConnectedModelInfo.cs`.
"""

from __future__ import annotations

from registry.sidecars.civitai import origin, paragraphs, title
from registry.sidecars.document import Fields
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
