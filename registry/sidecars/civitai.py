"""A model version as Civitai's REST interface describes it, which several programs store.

Fields: the site's own code, `civitai/civitai` `src/pages/api/v1/model-versions/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from registry.document import Fields
from registry.sidecars.known import Known
from registry.sidecars.markup import plain_text
from registry.sidecars.record import Origin, Sidecar

SERVICE = "civitai"


def version(owner: str, fields: Fields) -> Sidecar:
    """What the answer for one version of a model says."""
    model = fields.inside("model")
    told = _file(fields)
    return Sidecar(
        path=fields.path,
        owner=owner,
        name=title(model.text("name"), fields.text("name")),
        description=paragraphs(model.text("description"), fields.text("description")),
        trigger_words=fields.words("trainedWords"),
        base=fields.text("baseModel"),
        tags=model.words("tags"),
        rating=fields.inside("stats").number("rating"),
        source=origin(
            fields.label("modelId"),
            fields.label("id"),
            file_id=told.label("id") if told else None,
            author=fields.inside("creator").text("username"),
            urls=(fields.text("downloadUrl"),),
        ),
        claimed_hashes=told.inside("hashes").hashes() if told else {},
        licence="; ".join(allowed(**licence(model))) or None,
    )


def allowed(
    *,
    no_credit: bool | None,
    commercial: Sequence[str] | None,
    derivatives: bool | None,
    other_licence: bool | None,
) -> list[str]:
    """What an author allows, in words; None is what is not said."""
    told = (
        (no_credit, "no credit needed", "credit needed"),
        (derivatives, "derivatives allowed", "no derivatives"),
        (other_licence, "other licences allowed", "same licence only"),
    )
    said = [yes if value else no for value, yes, no in told if value is not None]
    uses = [] if commercial is None else [f"commercial use: {', '.join(commercial) or 'None'}"]
    return said + uses


def licence(model: Fields) -> dict[str, Any]:
    """The arguments of `allowed` from a model; the commercial uses were one word in old answers."""
    values, uses = model.values, "allowCommercialUse"

    def said(name: str) -> bool | None:
        return model.flag(name) if name in values else None

    return {
        "no_credit": said("allowNoCredit"),
        "commercial": model.words(uses) if uses in values else None,
        "derivatives": said("allowDerivatives"),
        "other_licence": said("allowDifferentLicense"),
    }


def title(model: str | None, version_name: str | None) -> str | None:
    """The name of a model with that of its version."""
    return " - ".join(filter(None, (model, version_name))) or None


def paragraphs(*texts: str | None) -> str | None:
    """Several descriptions as one text, without their HTML."""
    plain = (plain_text(text) for text in texts)
    return "\n\n".join(dict.fromkeys(text for text in plain if text)) or None


def origin(
    model_id: str | None,
    version_id: str | None,
    *,
    file_id: str | None = None,
    author: str | None = None,
    urls: tuple[str | None, ...] = (),
) -> Origin | None:
    """The place on the site; None for the stubs of models that the site did not know."""
    known = tuple(dict.fromkeys(url for url in urls if url))
    if not (model_id or version_id or known):
        return None
    return Origin(SERVICE, model_id, version_id, file_id, author, known)


def _file(fields: Fields) -> Fields | None:
    """Of the files of the version the one named as ours, else the primary one, else the only."""
    files = fields.objects("files")
    stem = PurePath(fields.path).name
    for file in files:
        name = file.text("name")
        if name and stem.startswith(PurePath(name).stem + "."):
            return file
    primary = [file for file in files if file.flag("primary")]
    return (primary or files)[0] if primary or len(files) == 1 else None


def number(label: str | None) -> int | None:
    """A number of the site as such; None for what is none."""
    return int(label) if label is not None and label.isascii() and label.isdigit() else None


def shown_hashes(known: Known, *names: str) -> dict[str, str]:
    """Hashes under these names of the site, in upper case as it shows them."""
    found = {name: known.hashes.get(name.lower()) for name in names}
    return {name: digest.upper() for name, digest in found.items() if digest is not None}
