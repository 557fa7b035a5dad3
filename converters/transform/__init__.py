"""What can be done to a state dict before it is written: cast, EMA, prune, metadata."""
