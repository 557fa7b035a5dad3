"""The site's answer for a version as Civitai Helper and others keep it beside a model."""

from __future__ import annotations

import json
from dataclasses import asdict

from assetmgr.sources.civitai.records import CivitaiModel, Version
from assetmgr.sources.web import Web
from registry.document import BadDocument, Fields
from registry.sidecars.civitai import allowed
from registry.sidecars.writers import parsed

INFO = ".civitai.info"
"""How the file's name ends."""

_MILD = 2
"""The site's levels are bits; 1 and 2 are fit for nearly everybody."""


def site_document(
    web: Web, version: Version, model: CivitaiModel | None, *, is_own: bool = True
) -> bytes:
    """The answer itself, with what only its model tells: description, tags and licence.

    Beside a file that `is_own` not, but was made of that, it claims no hashes for it.
    """
    document = dict(version.document)
    if not is_own:
        document["files"] = []
    if model is not None:
        inner = document.get("model")
        told = inner if isinstance(inner, dict) else {}
        document["modelId"] = int(model.id)
        document["model"] = {"name": model.name, "type": model.type, **told, **_of_model(model)}
    text = json.dumps(document, ensure_ascii=False, indent=2)
    if web.token is not None:  # the answer does not hold it; should it ever, it stays out of files
        text = text.replace(web.token, "…")
    return text.encode("utf-8", "replace")


def _of_model(model: CivitaiModel) -> dict[str, object]:
    licence = model.licence
    told = {
        "description": model.description,
        "tags": list(model.tags),
        "allowNoCredit": licence.no_credit,
        "allowCommercialUse": None if licence.commercial is None else list(licence.commercial),
        "allowDerivatives": licence.derivatives,
        "allowDifferentLicense": licence.other_licence,
    }
    return {name: value for name, value in told.items() if value is not None}


def licence_words(model: CivitaiModel | None) -> str | None:
    """What the author allows, in words; None where the site does not say."""
    return None if model is None else "; ".join(allowed(**asdict(model.licence))) or None


def added_to(old: bytes, new: bytes) -> bytes:
    """A file that is there with what the site says now; other keys of it stay."""
    try:
        kept = parsed(old)
    except BadDocument:
        return new
    return json.dumps(kept | json.loads(new), ensure_ascii=False, indent=2).encode(
        "utf-8", "replace"
    )


def picture_of(version: Version, *, nsfw: bool) -> str | None:
    """The address of the first picture that may be shown, the mildest where several may."""
    images = Fields("", dict(version.document), []).objects("images")
    rated = [
        (int(image.number("nsfwLevel") or 1), address)
        for image in images
        if (image.text("type") or "image") == "image" and (address := image.text("url"))
    ]
    fit = [one for one in rated if nsfw or one[0] <= _MILD]
    return min(fit, key=_level)[1] if fit else None


def _level(rated: tuple[int, str]) -> int:
    return rated[0]
