"""The front door: what `import palimpsest` gives, plug-ins, and the command line."""

__all__: list[str] = []
