"""One call of a pipeline: what is prepared before, attached during, and reported after it."""
