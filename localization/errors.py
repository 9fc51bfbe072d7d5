"""The errors of localization: one tree, so that a caller can tell a mistake of its own from a finding.

LocalizationError
├── BadContrasts   prompts that do not contrast the concept (also a ValueError)
├── NotDrawn       the model shows the concept in too few pictures, or answers both prompts alike: nothing to locate
└── NotKept        an answer could not be written down (a full disk); what was written before is kept
"""

from __future__ import annotations

__all__ = ["BadContrasts", "LocalizationError", "NotDrawn", "NotKept"]


class LocalizationError(Exception):
    """Anything that localization refuses or could not do."""


class BadContrasts(LocalizationError, ValueError):
    """Contrasts that do not contrast the concept."""


class NotDrawn(LocalizationError):
    """A concept that the model does not show, so that it cannot be located."""


class NotKept(LocalizationError):
    """An answer that could not be written down."""
