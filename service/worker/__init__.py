"""The life of a worker process: start, readiness, drain, and the notes that workers leave for each other."""
