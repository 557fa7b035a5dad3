"""Names and shapes of files of every kind, and what each of them is.

Structures are built by `helpers.sd1`; of families that only their telling names and shapes
identify, only these are here.
"""

from __future__ import annotations

from collections.abc import Mapping

from helpers.identities.adapters import ADAPTERS, EMBEDDINGS
from helpers.identities.common import Expected
from helpers.identities.others import CONTROLS, OTHERS, UPSCALERS
from helpers.identities.parts import TEXT_ENCODERS, VAES
from helpers.identities.transformers import TRANSFORMERS
from helpers.identities.unets import SD1_AND_NEIGHBOURS, UNETS

FIXTURES: Mapping[str, Expected] = {
    **SD1_AND_NEIGHBOURS, **UNETS, **TRANSFORMERS, **VAES, **TEXT_ENCODERS, **ADAPTERS,
    **EMBEDDINGS, **CONTROLS, **UPSCALERS, **OTHERS,
}  # fmt: skip
"""Everything."""
