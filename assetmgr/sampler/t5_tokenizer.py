"""The tokenizer of T5, read from a `tokenizer.json` on this machine.

No checkpoint holds its vocabulary of 32,100 pieces, and unlike CLIP's it does not come with this
program. Pipelines have it in a folder `tokenizer_2` (Flux) or `tokenizer_3` (SD3).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.errors import CorruptFile, FileMissing

_PAD = 0
"""T5's padding, which the families attend to."""


@dataclass(frozen=True, slots=True)
class T5Tokenizer:
    """Makes token ids of texts."""

    tokenizer: Any

    def ids(self, text: str, count: int) -> list[int]:
        """`count` ids: the text's, cut where it is too long, its end mark, and padding."""
        self.tokenizer.enable_truncation(count)
        self.tokenizer.no_padding()
        found: list[int] = self.tokenizer.encode(text).ids
        return found + [_PAD] * (count - len(found))


def load_t5_tokenizer(path: str) -> T5Tokenizer:
    """The tokenizer of a `tokenizer.json`. Raises FileMissing, CorruptFile."""
    from tokenizers import Tokenizer

    if not Path(path).is_file():
        raise FileMissing("no such file", path=path)
    try:
        return T5Tokenizer(Tokenizer.from_file(path))
    except Exception as error:  # the library raises a plain Exception for all it cannot read
        raise CorruptFile("is not a tokenizer of the tokenizers library", path=path) from error
