"""Which detectors a worker has, and the thread pools that run them."""
