"""A library of made-up assets, written with bulk inserts: as many as nobody wants to scan."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Table, insert

from registry.tables import schema
from registry.text import fold, searchable

Row = dict[str, Any]

_AT_ONCE = 5_000
_BEGINNING = datetime(2026, 1, 1)  # noqa: DTZ001 - the library stores times without zone, in UTC
_KINDS = {"lora": 70, "checkpoint": 12, "embedding": 7, "controlnet": 4, "vae": 3, "other": 4}
_BASES = {"sd-1": 45, "sdxl": 35, "flux": 10, "sd-2": 4, "sd-3": 3, "unknown": 3}
_ALGORITHMS = {("lora",): 75, ("lora", "locon"): 10, ("loha",): 8, ("lokr",): 5, ("oft",): 2}
_SAFETY = {"safe": 97, "suspicious": 2, "dangerous": 1}
_SYLLABLES = [first + second for first in "bcdfghjklmnprstvz" for second in "aeiou"]
_WORDS, _TAGS = 20_000, 300


def fill(connection: Connection, count: int) -> None:
    """Record `count` assets with files, tags, notes, metadata and previews: the same each time."""
    chance, words, tags = random.Random(count), vocabulary(), vocabulary()[:_TAGS]
    for start in range(1, count + 1, _AT_ONCE):
        rows: dict[Table, list[Row]] = {}
        for number in range(start, min(start + _AT_ONCE, count + 1)):
            for table, row in _asset(number, chance, words, tags):
                rows.setdefault(table, []).append(row)
        for table, some in rows.items():
            connection.execute(insert(table), some)


def vocabulary() -> list[str]:
    """The words that texts are made of, the common ones first."""
    chance = random.Random(1)
    return ["".join(chance.choices(_SYLLABLES, k=chance.randint(2, 4))) for _ in range(_WORDS)]


def digest(number: int, prefix: str) -> str:
    """A hash that belongs to this number: 64 digits, spread as those of hashes are."""
    return prefix + f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}".ljust(64 - len(prefix), "0")


def _asset(
    number: int, chance: random.Random, words: list[str], tags: list[str]
) -> Iterator[tuple[Table, Row]]:
    name = " ".join(_some(chance, words, 3)) + f" {number}"
    kind, base = _one(chance, _KINDS), _one(chance, _BASES)
    note = " ".join(_some(chance, words, 12)) if chance.random() < 0.05 else None
    triggers = _some(chance, words, 2) if kind in {"lora", "embedding"} else []
    told = {f"ss_{field}": " ".join(_some(chance, words, 9)) for field in range(8)}
    own = sorted(set(_some(chance, tags, 3)))
    yield schema.asset, _columns(number, chance, name, kind, base, note, triggers)
    yield schema.asset_metadata, {"asset_id": number, "metadata": told}
    text = searchable(name, note, own, triggers, told)
    yield schema.asset_search, {"asset_id": number, "text": text}
    for tag in own:
        yield schema.tag, {"asset_id": number, "name": tag}
    yield from _places(number, chance, f"/models/{kind}/{base}/{name}.safetensors")
    if number % 3 == 0:
        yield schema.candidate, _claim(number)
    if chance.random() < 0.5:
        yield schema.preview, _preview(number, chance)


def _columns(
    number: int,
    chance: random.Random,
    name: str,
    kind: str,
    base: str,
    note: str | None,
    triggers: list[str],
) -> Row:
    return {
        "id": number,
        "blake3": digest(number, "b"),
        "sha256": digest(number, "a"),
        "crc32": digest(number, "")[:8],
        "autov1": digest(number, "d")[:8],
        "autov3": digest(number, "c"),
        "weights": digest(number, "e"),
        "name": name,
        "name_folded": fold(name),
        "kind": kind,
        "base": base,
        "variant": "inpaint" if chance.random() < 0.03 else None,
        "prediction": "epsilon",
        "layout": "kohya" if kind == "lora" else "ldm",
        "container": "torch-zip" if chance.random() < 0.1 else "safetensors",
        "bytes": int(chance.lognormvariate(18, 1.5)),
        "rank": 32 if kind == "lora" else None,
        "tensors": 792,
        "parameters": 600_000,
        "confidence": 1.0,
        "safety": _one(chance, _SAFETY),
        "rating": chance.randint(0, 5) if chance.random() < 0.2 else None,
        "added": _BEGINNING + timedelta(seconds=chance.randrange(10**7)),
        "updated": _BEGINNING + timedelta(seconds=chance.randrange(10**7)),
        "algorithm": list(_one(chance, _ALGORITHMS)) if kind == "lora" else [],
        "dtypes": {"F16": 792},
        "components": [["unet", 528, 400_000], ["text_encoder", 264, 200_000]],
        "evidence": ["lora_unet_ and lora_te_ keys", "cross-attention of 768 columns"],
        "problems": [],
        "safety_imports": [],
        "safety_findings": [],
        "trigger_words": triggers,
        "note": note,
    }


def _claim(number: int) -> Row:
    """What a sidecar says of a hash; now and then it is that of another file."""
    is_true = number % 50 != 0
    return {
        "asset_id": number,
        "hash": "sha256",
        "digest": digest(number if is_true else -number, "a"),
        "origin": "civitai-info",
        "agrees": is_true,
    }


def _places(number: int, chance: random.Random, path: str) -> Iterator[tuple[Table, Row]]:
    """One file, now and then a second one, now and then gone."""
    state = "missing" if chance.random() < 0.02 else "present"
    for place in (path, f"/copies{path}")[: 2 if chance.random() < 0.05 else 1]:
        yield (
            schema.file,
            {
                "path": place,
                "path_folded": fold(place),
                "asset_id": number,
                "bytes": 1_200_000,
                "mtime_ns": number,
                "inode": str(number),
                "state": state,
            },
        )


def _preview(number: int, chance: random.Random) -> Row:
    return {
        "asset_id": number,
        "verdict": "failed" if chance.random() < 0.04 else "ok",
        "path": f"/previews/{number}.png",
        "thumbnail": f"/previews/{number}.webp",
        "seed": number,
        "prompt": "a photograph of a fox in the snow",
        "checks": [{"name": "finite", "ok": True, "value": 0, "threshold": 0, "detail": ""}],
        "parameters": {"steps": 20, "size": "512x512", "sampler": "dpm++"},
    }


def _some(chance: random.Random, words: list[str], count: int) -> list[str]:
    """Common words more often than rare ones."""
    return [words[int(len(words) * chance.random() ** 2)] for _ in range(count)]


def _one(chance: random.Random, weights: dict[Any, int]) -> Any:
    return chance.choices(list(weights), list(weights.values()))[0]
