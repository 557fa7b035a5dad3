"""The library: which model contents exist, where their files are, and where they came from.

Its one door is `registry.library.Library`; it gives out frozen records, never database rows.
"""
