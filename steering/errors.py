"""The errors of the steering room: one tree, so that a service can catch `SteeringError` and fall back.

SteeringError
├── NotSupported      the family, mode, source or feature is not supported; the message says which are
├── BadPlan           a plan, donor or argument that is wrong as written (also a ValueError)
│   ├── UnknownSite   a site name that the host does not have; names the nearest
│   ├── BadDonor      a donor of the wrong width or length, or with values that are not finite
│   └── NeedsRows     the plan needs added rows, and the caller drives the pipeline
├── PackError         a pack that must not be used
│   ├── BadPack       the file is not a pack, or not one of this version
│   ├── PackMismatch  the pack was made for another host; names what differs
│   └── PackNotFound  no pack for the concept on this host
├── BadLora           a file that is no whole LoRA, or one of another model (also a ValueError)
├── BadModel          a folder or hub id that holds no usable pipeline
├── BadFamily         a family record of the caller that cannot be used (also a ValueError)
├── HostBusy          another call holds the host, and `timeout` passed (also a TimeoutError)
├── HostShared        two hosts would steer the same module
├── Untrusted         the host failed its self-test: localized steering is refused
├── UnjudgedText      the pipeline would read text that is in no prompt of the call, such as what a rewriter wrote
├── BrokenPicture     latents or decoded values that are not finite: no picture, whatever would be made of them
├── BadLayout         the denoiser was called with rows that the plan was not laid out for
├── NotFired          a site replaced fewer or more rows than the plan says, or no step of a run lies in a window of
│                     it, so the picture must not be used
└── NotFinite         what a sentinel reads is nan or inf, so it cannot tell that the concept is absent
"""

from __future__ import annotations

from typing import Literal

__all__ = [
    "BadDonor",
    "BadFamily",
    "BadLayout",
    "BadLora",
    "BadModel",
    "BadPack",
    "BadPlan",
    "BrokenPicture",
    "Cause",
    "HostBusy",
    "HostShared",
    "NeedsRows",
    "NotFinite",
    "NotFired",
    "NotSupported",
    "PackError",
    "PackMismatch",
    "PackNotFound",
    "SteeringError",
    "UnjudgedText",
    "UnknownSite",
    "Untrusted",
]


Cause = Literal["latents", "decoded"]

_SHOWN = 5  # words of a text in a message


class SteeringError(Exception):
    """Anything that steering refuses or could not do."""


class NotSupported(SteeringError):
    """Something that this version does not support; the message names the reason and what is supported."""


class BadPlan(SteeringError, ValueError):
    """A plan, donor or argument that is wrong as written."""


class UnknownSite(BadPlan):
    """A site name that the host does not have."""


class BadDonor(BadPlan):
    """A donor that does not fit the host."""


class NeedsRows(BadPlan):
    """The plan needs rows added to the batch; use `Host.generate`, which adds them."""


class PackError(SteeringError):
    """A pack that must not be used."""


class BadPack(PackError, ValueError):
    """A file that is not a pack, or not one of a known version."""


class PackMismatch(PackError):
    """A pack that was made for another host."""


class PackNotFound(PackError, LookupError):
    """No pack for a concept on a host."""


class BadLora(SteeringError, ValueError):
    """A file that is not a whole LoRA, or a LoRA of another model."""


class BadModel(SteeringError, ValueError):
    """A folder or hub id that holds no usable pipeline."""


class BadFamily(SteeringError, ValueError):
    """A family record of the caller that is not a `Family`, or that describes a pipeline class of another record."""


class HostBusy(SteeringError, TimeoutError):
    """Another call holds the host."""


class HostShared(SteeringError):
    """Two hosts would steer the same module."""


class Untrusted(SteeringError):
    """The host failed its self-test."""


class UnjudgedText(SteeringError):
    """A pipeline would have read `text` with its tokenizer `component`, and no prompt of the call says it.

    `rewritten`: the pipeline wrote it itself, with a language model.
    """

    def __init__(self, component: str, text: str, *, rewritten: bool = False) -> None:
        begin = " ".join(text.split()[:_SHOWN])
        why = (
            "the pipeline wrote it in place of a prompt; switch its rewriter off, or judge its texts (`on_rewritten`)"
            if rewritten
            else "it is in no prompt of the call"
        )
        super().__init__(f"`{component}` was to encode a text that nobody judged: {why}; it begins with `{begin}`")
        self.component, self.text, self.rewritten = component, text, rewritten


class BrokenPicture(SteeringError):
    """Values that are NaN or infinite where a picture should be, in the rows `rows` of a call.

    `cause`: `latents`, which the denoiser gave, or `decoded`, which the decoder made of finite latents.
    """

    def __init__(self, cause: Cause, rows: tuple[int, ...]) -> None:
        values, way_out = {
            "latents": ("latents", "look at the weights of the denoiser and at what steers it"),
            "decoded": ("decoded values", "half precision may overflow in the decoder: try `float32` or `bfloat16`"),
        }[cause]
        named = ", ".join(map(str, rows))
        super().__init__(
            f"the {values} of a picture must be finite numbers, and those of row {named} are not; {way_out}"
        )
        self.cause, self.rows = cause, rows


class BadLayout(SteeringError):
    """The denoiser was called with rows that the plan was not laid out for."""


class NotFired(SteeringError):
    """A site did not replace the rows that the plan says, or no step of the run lies in the window of a part of it."""


class NotFinite(SteeringError):
    """What a sentinel reads is not finite, so it tells nothing; that never counts as nothing found."""
