"""Civitai: find models, judge and fetch them, and tell what local files are called there."""
