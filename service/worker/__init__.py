"""How a worker process lives: start, readiness, drain and the notes that workers leave each other."""
