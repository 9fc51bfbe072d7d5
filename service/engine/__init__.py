"""The closed loop, the queue, and the engine thread that owns the model."""
