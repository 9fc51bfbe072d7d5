"""The quality tables, one file a table."""
