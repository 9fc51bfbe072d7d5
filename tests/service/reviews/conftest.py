"""A service whose rules hold: on the prompt, on what cannot be repaired, and with a repair of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.running import policy_text

HOLDING = policy_text(
    "holding",
    """
  - id: desk
    why: The news desk looks at these first.
    category: news
    when: {prompt: {any_of: [election]}}
    then: [{do: review-hold, queue: news-desk}]
    disclose: category
  - id: both
    why: Words on signs are looked at, and would be repaired.
    category: signs
    when: {lettering: {any_of: [moron], views: all}}
    then:
      - {do: steer, concept: lettering, toward: benign-word, strength: auto}
      - {do: review-hold, queue: signs}
    disclose: category
  - id: toxic-lettering
    why: Insults do not belong on signs.
    category: harassment
    when: {lettering: {any_of: [idiot], views: all}}
    then: [{do: steer, concept: lettering, toward: benign-word, strength: auto}]
    disclose: category
  - id: never
    why: Some words are refused wherever they stand.
    category: hate
    when: {prompt: {any_of: [forbidden]}}
    then: [{do: block}]
    disclose: reason
""",
)


@pytest.fixture
def holding(policy: Path, serve: Callable[..., Any]) -> Callable[..., Any]:
    """Starts a service under these rules; keywords are settings."""
    policy.write_text(HOLDING)
    return serve
