"""What is known of each model family, as data, one record a family; `description` has the types."""
