"""Policies on disk and in bundles: loaded, reviewed, compared, signed, and followed while a service runs."""
