"""Assets proved by a render: the choice of bases, settings and parts, batches, sheets, clusters."""
