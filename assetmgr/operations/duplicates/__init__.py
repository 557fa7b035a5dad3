"""Files that are there more than once, and links in place of copies."""
