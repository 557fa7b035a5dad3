"""Pickles, read without running them: decoding, an inert machine, and a verdict on what they name.

Nothing that a file names is imported or called anywhere in this package.
"""
