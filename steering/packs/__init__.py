"""Packs: the files that say where a concept sits in a host, where they are found, and the published presets."""
