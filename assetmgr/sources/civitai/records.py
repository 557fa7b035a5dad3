"""What Civitai says of models, from its answers: JSON of which nothing is believed by its type.

Fields: the site's own code, `civitai/civitai` `src/pages/api/v1/**` and
`packages/civitai-db-schema/src/enums.ts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from registry.document import Fields
from registry.sidecars import civitai
from registry.sidecars.markup import plain_text

KILOBYTE = 1024
"""`sizeKB` times this is bytes."""

_MOST_KILOBYTES = 1 << 40
_LONGEST_NUMBER = 18


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file of a version. `size` in bytes; `hashes` are lower-case hex by our names for them.

    `content` says what it is (Model, VAE, Training Data, …), `scans` what the site's own scanners
    found (`pickle`, `virus`), both in the site's words.
    """

    id: str | None
    name: str
    content: str | None
    size: int | None
    format: str | None
    precision: str | None
    pruned: str | None
    primary: bool
    hashes: Mapping[str, str]
    scans: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a model. `document` is the answer itself, when it was one for this version."""

    id: str
    model_id: str | None
    name: str | None
    base: str | None
    published: str | None
    trained_words: tuple[str, ...]
    description: str | None
    air: str | None
    availability: str | None
    files: tuple[ModelFile, ...]
    model_name: str | None
    model_type: str | None
    document: Mapping[str, object]

    @property
    def label(self) -> str:
        """What errors call it."""
        return f"civitai version {self.id}"

    def with_hash(self, name: str, digest: str) -> bool:
        """Whether one of its files has this hash; Civitai may give the beginning of one."""
        known = (file.hashes.get(name) for file in self.files)
        return any(value is not None and digest.startswith(value) for value in known)


@dataclass(frozen=True, slots=True)
class Licence:
    """What the author allows; None for what is not said. `commercial` in the site's words."""

    no_credit: bool | None
    commercial: tuple[str, ...] | None
    derivatives: bool | None
    other_licence: bool | None


@dataclass(frozen=True, slots=True)
class CivitaiModel:
    """A model with the versions that are published."""

    id: str
    name: str
    type: str | None
    creator: str | None
    nsfw: bool
    tags: tuple[str, ...]
    description: str | None
    downloads: int | None
    licence: Licence
    versions: tuple[Version, ...]

    def only(self, version: Version) -> CivitaiModel:
        """The model as if it had this version alone."""
        return replace(self, versions=(version,))


def model_of(fields: Fields) -> CivitaiModel | None:
    """A model; None for an object that is none."""
    number = _number(fields, "id")
    if number is None:
        return None
    found = (version_of(inner) for inner in fields.objects("modelVersions"))
    name, kind = fields.text("name") or f"model {number}", fields.text("type")
    downloads = fields.inside("stats").number("downloadCount")
    return CivitaiModel(
        id=number,
        name=name,
        type=kind,
        creator=fields.inside("creator").text("username"),
        nsfw=fields.flag("nsfw"),
        tags=fields.words("tags"),
        description=plain_text(fields.text("description")),
        downloads=None if downloads is None else int(downloads),
        licence=Licence(**civitai.licence(fields)),
        versions=tuple(
            replace(version, model_id=number, model_name=name, model_type=kind)
            for version in found
            if version is not None
        ),
    )


def version_of(fields: Fields) -> Version | None:
    """A version, by itself or inside of its model; None for an object that is none."""
    number = _number(fields, "id")
    if number is None:
        return None
    model = fields.inside("model")
    files = (_file(inner) for inner in fields.objects("files"))
    return Version(
        id=number,
        model_id=_number(fields, "modelId"),
        name=fields.text("name"),
        base=fields.text("baseModel"),
        published=fields.text("publishedAt"),
        trained_words=fields.words("trainedWords"),
        description=plain_text(fields.text("description")),
        air=fields.text("air"),
        availability=fields.text("availability"),
        files=tuple(file for file in files if file is not None),
        model_name=model.text("name"),
        model_type=model.text("type"),
        document=fields.values,
    )


def _file(fields: Fields) -> ModelFile | None:
    name = fields.text("name")
    if name is None:
        return None
    about, kilobytes = fields.inside("metadata"), fields.number("sizeKB")
    return ModelFile(
        id=_number(fields, "id"),
        name=name,
        content=fields.text("type"),
        size=None if kilobytes is None else _bytes(kilobytes),
        format=about.text("format"),
        precision=about.text("fp"),
        pruned=about.text("size"),
        primary=fields.flag("primary"),
        hashes=fields.inside("hashes").hashes(),
        scans={
            "pickle": fields.text("pickleScanResult"),
            "virus": fields.text("virusScanResult"),
        },
    )


def _bytes(kilobytes: float) -> int | None:
    return round(kilobytes * KILOBYTE) if 0 < kilobytes < _MOST_KILOBYTES else None


def _number(fields: Fields, name: str) -> str | None:
    """What something is addressed by, and so nothing but digits."""
    label = fields.label(name) or ""
    usable = label.isascii() and label.isdigit() and len(label) <= _LONGEST_NUMBER
    return label if usable else None
