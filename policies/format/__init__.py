"""The policy format: pydantic models, strict YAML, and error messages."""
