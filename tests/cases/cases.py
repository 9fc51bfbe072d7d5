"""The failing inputs of public reports; every one of them must pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["CASES"]

CASES: list[dict[str, Any]] = [
    json.loads(line) for line in (Path(__file__).parent / "reports.jsonl").read_text("utf-8").splitlines()
]
