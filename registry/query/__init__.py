"""The query language of the library: words, phrases and filters that all must hold.

`kind:lora tag:anime -tag:wip size:>100mb "red fox"`. Every term has two meanings, a clause in SQL
and `match(asset)` in Python; a property test demands that they agree.
"""

from __future__ import annotations

from registry.query.order import Order, parse_order
from registry.query.parser import parse
from registry.query.terms import All, Term

__all__ = ["All", "Order", "Term", "parse", "parse_order"]
