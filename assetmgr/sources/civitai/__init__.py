"""Civitai, over its REST interface."""
