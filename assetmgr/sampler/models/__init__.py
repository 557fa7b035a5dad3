"""State dicts become networks, by their shapes and family."""
