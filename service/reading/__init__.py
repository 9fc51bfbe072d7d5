"""The detectors of a worker, and the thread pools that run them."""
