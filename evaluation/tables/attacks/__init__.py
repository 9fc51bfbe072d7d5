"""The table of attacks, and the file that keeps what was attacked."""
