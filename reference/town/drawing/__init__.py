"""Draws the scenes of the town."""
