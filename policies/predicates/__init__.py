"""What a rule may look at: one file for each predicate, with its model and its compiled condition."""
