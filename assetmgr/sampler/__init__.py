"""Rendering of model files to prove that they work: previews, thumbnails and verdicts.

`client` and `jobs` are light and never import torch. Everything else runs in the worker process
(`python -m assetmgr.sampler.process.worker`), which keeps torch out of the program and turns a
crash or an
exhausted memory into one failed job.
"""
