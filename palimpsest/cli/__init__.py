"""The command line, `palimpsest`: one file per command group."""
