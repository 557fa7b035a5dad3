"""Files on their way from a server to the disk."""
