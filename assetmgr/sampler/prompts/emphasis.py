r"""The emphasis grammar of prompts: `(a)`, `(a:1.3)`, `[a]`, and `\(` for a real bracket.

Round brackets multiply the weight of what they hold by 1.1 or by the number given, square ones
divide it by 1.1; brackets nest, and one left open reaches to the end. Source of the grammar: the
AUTOMATIC1111 web UI, `modules/prompt_parser.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

ROUND = 1.1
SQUARE = 1 / 1.1

_PIECE = re.compile(
    r"\\[()\[\]\\]"  # an escaped character
    r"|:\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*\)"  # the weight that closes a round bracket
    r"|[()\[\]]"
    r"|[^\\()\[\]:]+"
    r"|."
)


@dataclass(frozen=True, slots=True)
class Span:
    """A run of text under one weight."""

    text: str
    weight: float


def escape(text: str) -> str:
    """The text for a prompt in which brackets mean themselves."""
    return re.sub(r"[()\[\]\\]", r"\\\g<0>", text)


def split_words(text: str, words: Iterable[str]) -> list[str]:
    """`text` cut before and after every whole word that is one of `words`, longest ones first."""
    either = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return re.split(rf"(?<!\w)({either})(?!\w)", text, flags=re.IGNORECASE) if either else [text]


def names(prompt: str, word: str) -> bool:
    """Whether a prompt holds a word or words, in brackets or not."""
    return any(len(split_words(span.text, [word])) > 1 for span in parse_emphasis(prompt))


def parse_emphasis(prompt: str) -> tuple[Span, ...]:
    """The prompt as runs of text with their weights; neighbours of equal weight are joined."""
    reading = _Reading()
    for match in _PIECE.finditer(prompt.replace("\n", " ")):
        if not reading.bracket(match.group()):
            reading.text(match.group())
    reading.close_all()
    return _joined(zip(reading.texts, reading.weights, strict=True))


class _Reading:
    """Texts and weights so far, and where the brackets that are still open began."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.weights: list[float] = []
        self._opened: dict[str, list[int]] = {"(": [], "[": []}

    def bracket(self, piece: str) -> bool:
        """Whether the piece was a bracket that opens, or closes an open one."""
        if piece in self._opened:
            self._opened[piece].append(len(self.texts))
            return True
        if piece[0] == ":" and piece[-1] == ")":
            return self._close("(", float(piece[1:-1]))
        if piece == ")":
            return self._close("(", ROUND)
        return piece == "]" and self._close("[", SQUARE)

    def text(self, piece: str) -> None:
        """A piece that is text, perhaps an escaped character."""
        escaped = len(piece) == 2 and piece[0] == "\\"
        self.texts.append(piece[1] if escaped else piece)
        self.weights.append(1.0)

    def close_all(self) -> None:
        """Brackets left open reach to the end."""
        while self._close("(", ROUND) or self._close("[", SQUARE):
            pass

    def _close(self, bracket: str, factor: float) -> bool:
        if not self._opened[bracket]:
            return False
        start = self._opened[bracket].pop()
        self.weights[start:] = [weight * factor for weight in self.weights[start:]]
        return True


def _joined(pieces: Iterable[tuple[str, float]]) -> tuple[Span, ...]:
    runs = groupby(pieces, key=lambda piece: piece[1])
    return tuple(Span("".join(text for text, _ in run), weight) for weight, run in runs)
