"""The command line, `palimpsest`: a file a command group."""
