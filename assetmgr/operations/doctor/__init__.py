"""Whether everything that the program needs is in order."""
