"""What each part of a caption and of a picture stands for: the targets of training.

For a caption's letters: which letter each is, and where it will stand in the picture, in half steps of an image token
(4 px). For image tokens: which letters and which subject they show.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from reference.town.captions import NEUTRAL, Caption
from reference.town.layout import letter_boxes
from reference.town.letters import ALPHABET
from reference.town.scenes import COLOURS, FONTS, GROUNDS, SPOTS, STYLES, SUBJECTS, Scene, category_of

__all__ = ["FACTS", "HALF_STEP", "Letter", "caption_facts", "caption_letters", "token_marks"]

HALF_STEP = 4  # pixels
_VAGUE = tuple(sorted(set(NEUTRAL.values()) - {NEUTRAL["place"]}))
_SUBJECTS = (*SUBJECTS, *_VAGUE)
_GROUNDS = (*GROUNDS, NEUTRAL["place"])
# what a caption tells, and how many answers there are; where it may tell nothing, 0 is that
FACTS: Mapping[str, int] = MappingProxyType(
    {
        "subject": len(_SUBJECTS),
        "colour": len(COLOURS) + 1,
        "ground": len(_GROUNDS),
        "style": len(STYLES) + 1,
        "lines": 3,
        "spot": len(SPOTS) + 1,
        "font": len(FONTS) + 1,
    }
)

Letter = tuple[int, int, int, int]


def caption_facts(scene: Scene, caption: Caption) -> list[int]:
    """The caption's answers, one for each of `FACTS`; what it leaves open is answered so."""
    vague = caption.vague is not None and caption.vague != "place"
    subject = NEUTRAL[category_of(scene.subject)] if vague else scene.subject
    ground = NEUTRAL["place"] if caption.vague == "place" else scene.ground
    signed = bool(scene.lines)
    return [
        _SUBJECTS.index(subject),
        0 if scene.colour is None or vague else tuple(COLOURS).index(scene.colour) + 1,
        _GROUNDS.index(ground),
        0 if scene.style is None else STYLES.index(scene.style) + 1,
        len(scene.lines),
        (SPOTS.index(scene.spot) + 1) * signed,
        (FONTS.index(scene.font) + 1) * signed,
    ]


def caption_letters(scene: Scene, caption: Caption, size: int) -> list[Letter]:
    """(byte in the lower-cased caption, letter, column, row) of every letter; columns and rows of 4 px."""
    found = []
    for at, line, boxes in zip(caption.lettering, scene.lines, letter_boxes(scene, size), strict=True):
        for k, (letter, box) in enumerate(zip(line, boxes, strict=True)):
            found.append((at + k, ALPHABET.index(letter), box[0] // HALF_STEP, box[1] // HALF_STEP))
    return found


def token_marks(scene: Scene, *, size: int, side: int) -> Tensor:
    """What each image token shows, [side * side, 3]: letters of its left and right half, subject; 0 is none."""
    marks = torch.zeros(side, side, 3, dtype=torch.long)
    pixels = size // side
    for line, boxes in zip(scene.lines, letter_boxes(scene, size), strict=True):
        for letter, (left, top, right, bottom) in zip(line, boxes, strict=True):
            rows = slice(top // pixels, -(-bottom // pixels))
            for half in range(left // (pixels // 2), right // (pixels // 2)):
                marks[rows, half // 2, half % 2] = ALPHABET.index(letter) + 1
    low = [max(0, int((v - scene.radius) * side)) for v in (scene.y, scene.x)]
    high = [min(side, int((v + scene.radius) * side) + 1) for v in (scene.y, scene.x)]
    marks[low[0] : high[0], low[1] : high[1], 2] = SUBJECTS.index(scene.subject) + 1
    return marks.view(-1, 3)
