"""Measures sets of sites: cells of work, who answers them, and pictures of the finalists."""
