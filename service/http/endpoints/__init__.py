"""Handlers beside those of drawing: held cases, pictures behind links, and moderation of texts."""
