"""The page of a result: one HTML file with the loss curve, what it cost, and pictures before and after."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from tuning.run import Tuned

__all__ = ["page_of"]

_TEMPLATE = Path(__file__).with_name("page.html.j2")
_WIDE, _HIGH = 560, 160


def page_of(card: Mapping[str, Any], tuned: Tuned) -> str:
    """The page as text; it loads nothing."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    rows = [
        {"prompt": p, "before": _inline(a), "after": _inline(b)}
        for p, a, b in zip(tuned.prompts, tuned.before, tuned.after, strict=True)
    ]
    told = {k: v if isinstance(v, str | int | float) else json.dumps(v, ensure_ascii=False) for k, v in card.items()}
    return environment.from_string(_TEMPLATE.read_text("utf-8")).render(
        card=told, rows=rows, curve=_curve(tuned.losses), wide=_WIDE, high=_HIGH, steps=len(tuned.losses)
    )


def _curve(losses: Sequence[float]) -> str:
    """Points of a polyline: means over a fiftieth of the run, scaled to the drawing."""
    size = max(1, len(losses) // 50)
    means = [sum(part) / len(part) for i in range(0, len(losses), size) if (part := losses[i : i + size])]
    top = max(means, default=1.0) or 1.0
    last = max(1, len(means) - 1)
    return " ".join(f"{_WIDE * n / last:.1f},{_HIGH * (1 - v / top):.1f}" for n, v in enumerate(means))


def _inline(image: Image.Image) -> str:
    held = io.BytesIO()
    image.convert("RGB").save(held, "PNG")
    return "data:image/png;base64," + base64.b64encode(held.getvalue()).decode()
