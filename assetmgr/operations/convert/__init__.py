"""Models in another container, layout or precision."""
