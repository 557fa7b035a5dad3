"""Chosen assets of the library in another program's folder, through links."""
