"""Asks a running service over HTTP, with the first key of the settings."""

from __future__ import annotations

from typing import Any

from palimpsest.cli.shared.console import fail
from palimpsest.cli.shared.policy_files import settings_of

__all__ = ["ask", "service_url"]


def service_url(at: str | None) -> str:
    """`at`, or the URL of the service of the settings."""
    settings = settings_of()
    return (at or f"http://{settings.host}:{settings.port}").rstrip("/")


def ask(method: str, url: str, path: str, **more: Any) -> Any:
    """The service's answer, of any status. A service that does not answer ends the command with an error."""
    import httpx

    keys = settings_of().api_keys
    headers = {"Authorization": f"Bearer {keys[0].get_secret_value()}"} if keys else {}
    try:
        return httpx.request(method, f"{url}{path}", headers=headers | more.pop("headers", {}), timeout=30, **more)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        fail(f"`{url}` does not answer: {error}")
