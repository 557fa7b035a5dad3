"""The program's colours: dark, light, and with high contrast."""

from __future__ import annotations

from textual.theme import Theme

# The styles of list cells are not blended with what lies under them, so these are solid colours.
SHADES = {
    "dim": "#8a909c",
    "faint": "#5f6672",
    "cursor": "#2a303c",
    "cursor-focused": "#1d4a4c",
    "scroll": "#454b57",
    "rose": "#d79bd8",
}
"""Colours of ours beside Textual's own, as variables of the style sheet."""

DARK = Theme(
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
        **SHADES,
        "footer-key-foreground": "#5cc8c0",
        "input-selection-background": "#5cc8c0 35%",
    },
)
LIGHT = Theme(
    name="assetmgr-light",
    primary="#0b6e69",
    secondary="#3d4bb5",
    accent="#8f5200",
    success="#1d6f2c",
    warning="#7a5900",
    error="#b3261e",
    foreground="#1c2024",
    background="#f7f8fa",
    surface="#eceff3",
    panel="#dde2ea",
    dark=False,
    variables={
        "dim": "#59616d",
        "faint": "#868e99",
        "cursor": "#d5dbe4",
        "cursor-focused": "#b5e0dd",
        "scroll": "#b3bcc9",
        "rose": "#8a3d8c",
        "footer-key-foreground": "#0b6e69",
        "input-selection-background": "#0b6e69 30%",
    },
)
CONTRAST = Theme(
    name="assetmgr-contrast",
    primary="#00ffff",
    secondary="#ffff00",
    accent="#ffc400",
    success="#00ff5f",
    warning="#ffd700",
    error="#ff6b6b",
    foreground="#ffffff",
    background="#000000",
    surface="#000000",
    panel="#262626",
    dark=True,
    variables={
        "dim": "#dddddd",
        "faint": "#b5b5b5",
        "cursor": "#444444",
        "cursor-focused": "#0000c8",
        "scroll": "#474746",
        "rose": "#ffa8ff",
        "footer-key-foreground": "#00ffff",
        "input-selection-background": "#00ffff 50%",
    },
)
THEMES = (DARK, LIGHT, CONTRAST)
NAMES = {DARK.name: "dark", LIGHT.name: "light", CONTRAST.name: "high contrast"}
"""What the themes are called in the settings."""
