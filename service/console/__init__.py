"""The web console: pages at `/` to try prompts, policies and packs, served by the service itself."""

from service.console.app import Console

__all__ = ["Console"]
