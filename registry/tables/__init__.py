"""The tables and their rows: from rows to records, and back."""
