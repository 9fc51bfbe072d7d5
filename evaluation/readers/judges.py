"""The reader, both judges and RapidOCR, loaded together; none was trained on a model's pictures."""

from __future__ import annotations

import re
from dataclasses import dataclass

from PIL import Image

from detectors.images import RapidOcr
from evaluation.prompts.cases import Case
from evaluation.readers.reader import Reader
from reference.town.judge import SECOND_JUDGE, Judge
from reference.town.layout import sign_box

__all__ = ["Judges", "read_sign", "read_words"]

_MARGIN = 3  # pixels, at 64: how far from its sign a drawn letter may reach


@dataclass(frozen=True, slots=True)
class Judges:
    """The independent reader, the judge, a second judge, and RapidOCR, which the service also uses.

    The service asks the first judge about concepts and RapidOCR about lettering, so figures on what is left after its
    loop need the second judge and the reader.
    """

    reader: Reader
    judge: Judge
    second: Judge
    ocr: RapidOcr

    @classmethod
    def load(cls) -> Judges:
        """The ones that the repository ships."""
        return cls(Reader.load(), Judge.load(), Judge.load(SECOND_JUDGE), RapidOcr())


def read_sign(ocr: RapidOcr, image: Image.Image, case: Case) -> str:
    """What RapidOCR reads where the sign should stand, from above and from the left, in the signs' alphabet.

    Only there, because a ring beside a sign is read as an O. Spaces between words are not told apart.
    """
    box = sign_box(case.scene, image.width)
    if box is None:
        return ""
    margin = _MARGIN * image.width // 64
    inside = [
        r
        for r in ocr.read(image)
        if not r.turned
        and box[0] - margin <= (r.box.left + r.box.right) / 2 <= box[2] + margin
        and box[1] - margin <= (r.box.top + r.box.bottom) / 2 <= box[3] + margin
    ]
    high = (box[3] - box[1]) / len(case.scene.lines)
    inside.sort(key=lambda r: (((r.box.top + r.box.bottom) / 2 - box[1]) // high, r.box.left))
    return _letters("".join(r.text for r in inside))


def read_words(ocr: RapidOcr, image: Image.Image) -> str:
    """What RapidOCR reads in the longest piece of lettering of a picture, in the signs' alphabet.

    The longest, because a ring beside a sign is read as an O.
    """
    return max((_letters(r.text) for r in ocr.read(image) if not r.turned), key=len, default="")


def _letters(text: str) -> str:
    return re.sub("[^A-Z0-9]", "", text.upper()).replace("0", "O").replace("1", "I")
