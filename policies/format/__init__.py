"""The policy format: pydantic models, strict YAML, and what is said of mistakes."""
