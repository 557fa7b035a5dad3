"""The terminal user interface; it shows what operations return and starts them, nothing more."""

import os

# Read once by Textual, when it is imported. With its 60, what comes just after a frame (the rows
# that a letter finds, after the letter itself) waits for one or two sixtieths of a second.
os.environ.setdefault("TEXTUAL_FPS", "240")
