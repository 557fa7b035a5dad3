"""Words that call an adapter or embedding, from what its metadata says.

Sources: Stability-AI/ModelSpec (`modelspec.trigger_phrase`), the additional-networks extension
(`ssmd_keywords`), kohya-ss/sd-scripts `library/train_util.py` (`ss_tag_frequency`,
`ss_dataset_dirs`, `ss_datasets`). Metadata is written by others: what does not parse is passed
over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from converters.identify.identity import Identity
from converters.kinds import Kind
from converters.statedict import Plain

_MOST = 8
_DIRECTORY = re.compile(r"\d+_(.+)")


def trigger_words(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """The stated trigger phrase or keywords; else a guess from the training captions.

    The guess: tags that stand in every caption of a training folder; if there are none, the word
    in the folder's name (`<repeats>_<word>`), at last the class of the training data.
    """
    stated = [metadata.get("modelspec.trigger_phrase", "").strip()]
    stated += [word.strip() for word in metadata.get("ssmd_keywords", "").split(",")]
    return _unique(stated) or _unique(_guessed(metadata))


def with_stated_words(identity: Identity, metadata: Mapping[str, str]) -> Identity:
    """The identity with the trigger words that metadata tell: of an adapter before its own.

    The words of an adapter itself are those of embeddings in it. The words that stand in an
    embedding itself are those that call it.
    """
    own, wanted = identity.trigger_words, identity.kind
    if wanted is Kind.LORA:
        stated = trigger_words(metadata)
        told = () if {each for text in stated for each in text.split(", ")} == {*own} else stated
        return replace(identity, trigger_words=_unique([*told, *own]))
    if wanted is Kind.EMBEDDING:
        return replace(identity, trigger_words=own or trigger_words(metadata))
    return identity


def _guessed(metadata: Mapping[str, str]) -> list[str]:
    frequencies = _object(metadata.get("ss_tag_frequency", ""))
    folders = _object(metadata.get("ss_dataset_dirs", ""))
    constant: list[str] = []
    named: list[str] = []
    for folder, tags in frequencies.items():
        if not isinstance(tags, dict):
            continue
        images = _image_count(folders.get(folder))
        constant += [tag.strip() for tag, count in tags.items() if count == images]
        named += [match[1].strip() for match in [_DIRECTORY.fullmatch(folder)] if match]
    return constant[:_MOST] or named[:_MOST] or _class_tokens(metadata)[:_MOST]


def _class_tokens(metadata: Mapping[str, str]) -> list[str]:
    """What each part of the training data was said to show, where a file described the data."""
    datasets = _parsed(metadata.get("ss_datasets", ""))
    found = (
        part.get("class_tokens")
        for dataset in (datasets if isinstance(datasets, list) else ())
        for parts in [dataset.get("subsets") if isinstance(dataset, dict) else None]
        for part in (parts if isinstance(parts, list) else ())
        if isinstance(part, dict) and not part.get("is_reg")
    )
    return [words.strip() for words in found if isinstance(words, str)]


def _image_count(folder: Plain) -> Plain:
    count = folder.get("img_count") if isinstance(folder, dict) else None
    return count if isinstance(count, int) and count > 0 else None


def _object(text: str) -> dict[str, Plain]:
    value = _parsed(text)
    return value if isinstance(value, dict) else {}


def _parsed(text: str) -> Plain:
    try:
        value: Plain = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None
    return value


def _unique(words: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_filled(words)))


def _filled(words: list[str]) -> Iterator[str]:
    return (word for word in words if word)
