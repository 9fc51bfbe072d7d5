"""Which policies a worker follows, and how new ones reach it."""
