"""Adapters taken out of the difference of two checkpoints, and brought to other ranks."""
