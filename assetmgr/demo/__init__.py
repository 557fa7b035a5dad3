"""A small model family in the true layout of Stable Diffusion 1, and the demo folder made of it.

The family is trained by `python -m assetmgr.demo.train` on synthetic captioned pictures: coloured
shapes on coloured backgrounds, 64 by 64 pixels. It is far too small for anything else, but real:
what the prompt says is what appears, and each adapter does what it was trained for.
"""

PROMPT = "a red circle on a white background"
"""What every part of the family can be tried with."""

SIZE = (64, 64)
"""Width and height in pixels that the family was trained on."""

STYLE_TRIGGER = "outlined"
"""The word of the LoRA: shapes become outlines."""

CONCEPT = "gem"
"""The word of the embedding: a thing the base has no word for."""
