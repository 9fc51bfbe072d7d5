"""Marks of a worker: what is put on pictures that leave, and what is found in uploaded files."""
