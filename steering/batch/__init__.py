"""What each row of a batch is shown: plans laid out as tables of indices, donors, and the rows beside the requests."""
