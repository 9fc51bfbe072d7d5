"""Searches the smallest set of sites: screening, choice of K, and the papers' own procedures."""
