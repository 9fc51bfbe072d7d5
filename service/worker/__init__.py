"""The life of a worker process: start, readiness, draining, and the notes that workers share."""
