"""Commands of those who operate a service: the models that it serves, and what is said at its start."""
