"""The tokenizer of T5, read from a `tokenizer.json` on this machine.

No checkpoint holds its vocabulary of 32,100 pieces, and unlike CLIP's it does not come with this
program. Pipelines have it in a folder `tokenizer_2` (Flux) or `tokenizer_3` (SD3).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.errors import CorruptFile, FileMissing

PAD = 0
"""T5's padding, which the families attend to."""


@dataclass(frozen=True, slots=True)
class T5Tokenizer:
    """Makes token ids of texts."""

    tokenizer: Any

    def ids(self, text: str) -> list[int]:
        """The ids of a text, without the end mark."""
        found: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return found

    @property
    def end(self) -> list[int]:
        """The end mark."""
        found: list[int] = self.tokenizer.encode("").ids
        return found


def load_t5_tokenizer(path: str) -> T5Tokenizer:
    """The tokenizer of a `tokenizer.json`. Raises FileMissing, CorruptFile."""
    from tokenizers import Tokenizer

    if not Path(path).is_file():
        raise FileMissing("no such file", path=path)
    try:
        tokenizer = Tokenizer.from_file(path)
    except Exception as error:  # the library raises a plain Exception for all it cannot read
        raise CorruptFile("is not a tokenizer of the tokenizers library", path=path) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return T5Tokenizer(tokenizer)
