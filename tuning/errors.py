"""The errors of fine-tuning: one tree, so that a caller can tell a mistake of its own from a run that went wrong.

TuneError
├── BadLesson    data that nothing can be learned from: no pictures, captions missing, prompts without the concept
├── BadArm       sites that the host does not have, or a rank that does not fit
├── Diverged     the loss is no finite number; the last checkpoint is kept
└── NotKept      a checkpoint or result could not be written (a full disk); what was written before is kept
"""

from __future__ import annotations

__all__ = ["BadArm", "BadLesson", "Diverged", "NotKept", "TuneError"]


class TuneError(Exception):
    """Anything that fine-tuning refuses or could not do."""


class BadLesson(TuneError, ValueError):
    """Data that nothing can be learned from."""


class BadArm(TuneError, ValueError):
    """Sites that cannot be trained on this host."""


class Diverged(TuneError):
    """A loss that is no finite number."""


class NotKept(TuneError):
    """A file that could not be written."""
