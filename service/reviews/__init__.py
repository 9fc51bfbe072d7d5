"""The review queue: what rules hold, until a person decides."""
