"""The queue of downloads, and what becomes of a file that arrives."""
