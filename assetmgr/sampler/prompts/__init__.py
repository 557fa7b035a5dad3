"""Prompts become conditionings: emphasis, tokens, text encoders."""
