"""The tokenizer of CLIP, built from package data alone.

The byte-pair merges are OpenAI's (`clip/merges.txt.gz`, licence beside it); the vocabulary of
49,408 entries follows from them: 256 byte letters, the same with an end-of-word mark, one entry per
merge, then the start and end tokens. Source: openai/CLIP `clip/simple_tokenizer.py`.
"""

from __future__ import annotations

import functools
import gzip
import json
from collections.abc import Mapping
from importlib import resources
from typing import Protocol

START = 49406
"""Token id that begins every chunk."""
END = 49407
"""Token id that ends every chunk and pads it (SD1)."""
VOCABULARY = 49408
"""Token ids there are, from 0."""
_END_OF_WORD = "</w>"


class Tokenizer(Protocol):
    """What prompts need of a tokenizer."""

    def encode(self, text: str, *, add_special_tokens: bool = ...) -> list[int]:
        """Token ids of a text."""

    def decode(self, token_ids: list[int]) -> str:
        """The text of token ids."""


@functools.cache
def load_tokenizer() -> Tokenizer:
    """The CLIP tokenizer of transformers over our vocabulary; built once per process."""
    from transformers import CLIPTokenizer

    merges = _merges()
    tokenizer: Tokenizer = CLIPTokenizer(vocab=_vocabulary(merges), merges=merges)
    return tokenizer


@functools.cache
def tokenizer_files(*, padding_is_end: bool) -> Mapping[str, bytes]:
    """The files of a tokenizer folder as transformers' CLIPTokenizer reads them; made once.

    CLIP-L pads with its end token, the OpenCLIP encoders with the token of `!`, number 0.
    """
    merges = _merges()
    marks = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
    marks |= {"unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>" if padding_is_end else "!"}
    settings = {**marks, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges), ""]
    return {
        "vocab.json": json.dumps(_vocabulary(merges), ensure_ascii=False).encode(),
        "merges.txt": "\n".join(lines).encode(),
        "tokenizer_config.json": json.dumps(settings, indent=2).encode(),
        "special_tokens_map.json": json.dumps(marks, indent=2).encode(),
    }


def _merges() -> list[tuple[str, str]]:
    packed = (
        resources.files("assetmgr.sampler.prompts").joinpath("clip", "merges.txt.gz").read_bytes()
    )
    lines = gzip.decompress(packed).decode("utf-8").splitlines()
    pairs = (line.split(" ") for line in lines)
    return [(first, second) for first, second in pairs]


def _vocabulary(merges: list[tuple[str, str]]) -> dict[str, int]:
    letters = list(_byte_letters())
    entries = letters + [letter + _END_OF_WORD for letter in letters]
    entries += [first + second for first, second in merges]
    entries += ["<|startoftext|>", "<|endoftext|>"]
    return {entry: number for number, entry in enumerate(entries)}


def _byte_letters() -> tuple[str, ...]:
    """One printable letter per byte, in the vocabulary's order.

    Printable bytes stand for themselves and come first; the others take the letters from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = len(set(range(256)) - set(printable))
    return tuple(chr(code) for code in [*printable, *range(0x100, 0x100 + others)])
