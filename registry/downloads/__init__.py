"""The queue of downloads: a small file of its own beside the library."""
