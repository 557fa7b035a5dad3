"""The program's colours."""

from __future__ import annotations

from textual.theme import Theme

# The styles of list cells are not blended with what lies under them, so these are solid colours.
SHADES = {
    "dim": "#8a909c",
    "faint": "#5f6672",
    "cursor": "#2a303c",
    "cursor-focused": "#1d4a4c",
    "rose": "#d79bd8",
}
"""Colours of ours beside Textual's own, as variables of the style sheet."""

THEME = Theme(
    name="assetmgr",
    primary="#5cc8c0",
    secondary="#9aa8ff",
    accent="#f2b56b",
    success="#7fd18b",
    warning="#f0c05a",
    error="#f2777a",
    foreground="#d7dae0",
    background="#14161b",
    surface="#1a1d24",
    panel="#242a35",
    dark=True,
    variables={
        "footer-key-foreground": "#5cc8c0",
        "input-selection-background": "#5cc8c0 35%",
    },
)
