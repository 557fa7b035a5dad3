"""The parts of the screens, one idea per file; they show what they are given and post messages."""
