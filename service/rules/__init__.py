"""The policies that a worker uses, and how new ones reach it."""
