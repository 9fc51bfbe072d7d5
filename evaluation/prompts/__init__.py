"""Prompt sets: of the town, of erasure, of disguises, and of public benchmarks from local files."""
