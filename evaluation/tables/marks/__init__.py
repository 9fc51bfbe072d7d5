"""How well marks in pictures are found again."""
