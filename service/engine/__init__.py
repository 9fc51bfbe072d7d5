"""One picture from decision to last judgement: the closed loop, the queue and the thread that owns the model."""
