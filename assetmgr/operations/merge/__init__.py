"""Checkpoints and adapters merged, into one another and among themselves; and merges made again."""
