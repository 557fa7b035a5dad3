"""The library screen and the dialogs over it."""
