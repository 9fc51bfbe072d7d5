"""A held case as plain values, and the bytes that are sealed of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

__all__ = ["STATES", "Case", "Choice", "Content", "Reason", "State", "pack", "unpack"]

State = Literal["pending", "released", "rejected", "expired"]
STATES: tuple[State, ...] = get_args(State)
Choice = Literal["release", "release-repaired", "reject"]


@dataclass(frozen=True, slots=True)
class Case:
    """What the index knows of a case: nothing that the caller wrote or that a picture shows. Times are Unix time.

    `repaired` says whether there are repaired pictures, `chosen` whether these were released.
    """

    id: str
    queue: str
    tenant: str
    state: State
    created: float
    expires: float
    rules: tuple[str, ...]
    pictures: int
    repaired: bool
    bytes: int
    decided: float | None = None
    chosen: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The case as it is listed."""
        names = ("id", "queue", "tenant", "state", "created", "expires", "decided")
        return {name: getattr(self, name) for name in names} | {
            "rules": list(self.rules),
            "pictures": self.pictures,
            "repaired": self.repaired,
        }


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a reviewer decided as they did, and whether the caller is told. It may quote the prompt, so it is sealed."""

    text: str
    told: bool


@dataclass(frozen=True, slots=True)
class Content:
    """The sealed part of a case. `about` has the prompts and the grounds; `answer` and `mended` are the bodies that the
    caller would get, without the files of their pictures; `files` and `repaired` are the pictures, as files in the
    format that was asked for.
    """

    about: Mapping[str, Any]
    answer: Mapping[str, Any]
    files: tuple[bytes, ...]
    mended: Mapping[str, Any] | None = None
    repaired: tuple[bytes, ...] = ()


def pack(content: Content) -> bytes:
    """One string of bytes: the length of a JSON head, the head, and the pictures behind it."""
    head = {
        "about": content.about,
        "answer": content.answer,
        "mended": content.mended,
        "files": [len(file) for file in content.files],
        "repaired": [len(file) for file in content.repaired],
    }
    text = json.dumps(head).encode()
    return b"".join((len(text).to_bytes(8, "big"), text, *content.files, *content.repaired))


def unpack(raw: bytes) -> Content:
    """The content that `pack` made these bytes of."""
    start = 8 + int.from_bytes(raw[:8], "big")
    head = json.loads(raw[8:start])
    pieces = []
    for size in (*head["files"], *head["repaired"]):
        pieces.append(raw[start : start + size])
        start += size
    cut = len(head["files"])
    return Content(head["about"], head["answer"], tuple(pieces[:cut]), head["mended"], tuple(pieces[cut:]))
