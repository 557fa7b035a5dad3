"""The inside of model files: reading, identifying, hashing, converting and merging them.

Knows nothing of databases, networks or screens. Everything passes through the lazy state dict
(`converters.statedict`): readers make one, operations turn one into another, the writer pulls it.
"""
