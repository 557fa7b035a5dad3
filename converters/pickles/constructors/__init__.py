"""The named functions whose result the machine knows without calling them.

They make plain containers, tensors over storages, and numpy scalars and arrays. Each takes the
pickled arguments, checks them and gives an inert value.
"""

from __future__ import annotations

from converters.pickles.constructors import arrays, plain, tensors
from converters.pickles.constructors.arguments import Constructor

CONSTRUCTORS: dict[str, Constructor] = {
    **plain.CONSTRUCTORS,
    **tensors.CONSTRUCTORS,
    **arrays.CONSTRUCTORS,
}
"""Dotted name -> what calling it gives."""
