"""Scans: what lies in folders becomes files and assets of the library."""
