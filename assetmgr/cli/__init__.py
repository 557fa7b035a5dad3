"""The command line: a lazy table of commands, one file per command group."""
