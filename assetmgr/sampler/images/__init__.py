"""The pictures that renders leave behind: PNG, thumbnails, contact sheets."""
