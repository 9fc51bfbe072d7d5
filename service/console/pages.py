"""Fills in the templates. Whatever a person or a file wrote is shown as text: every value is escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

__all__ = ["STATIC", "render"]

STATIC = Path(__file__).with_name("static")

_environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **values: Any) -> str:
    """The page or fragment of `template`, a name without `.html.j2`."""
    return _environment.get_template(f"{template}.html.j2").render(**values)
