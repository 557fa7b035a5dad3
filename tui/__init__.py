"""The terminal user interface; it shows what operations return and starts them, nothing more."""
