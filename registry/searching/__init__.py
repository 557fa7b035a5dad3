"""Searches: which assets match a query, how many, in which order, and the first of them soon."""
