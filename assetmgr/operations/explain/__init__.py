"""What a checkpoint was merged of, found out from its weights."""
