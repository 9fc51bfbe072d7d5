"""The reader and the judges that measure quality."""
