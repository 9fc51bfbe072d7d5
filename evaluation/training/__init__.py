"""Trains the small detectors that come with the package."""
