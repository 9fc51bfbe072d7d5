"""The world's second step, the town: scenes with animals, named characters and persons, places, styles and harm.

The first step (`reference.world`) stays as it is, bit for bit: what was trained on it is judged by it. The town has
its shapes, colours, alphabet, word list and held-out rule, and adds the categories that a safety service is asked
about. `scenes` says what a scene is, `grounds`, `creatures`, `people` and `paint` draw it, `captions` describes it,
`marks` says which letter each part of a picture shows, `judge` tells what a picture shows, `prompts` makes prompt
sets.
"""

from .captions import CAPTION_BYTES, Caption, plain_caption, sample_caption
from .layout import letter_boxes, sign_box
from .paint import paint
from .scenes import CATEGORIES, GROUNDS, SUBJECTS, TownScene, sample_scene

__all__ = [
    "CAPTION_BYTES",
    "CATEGORIES",
    "GROUNDS",
    "SUBJECTS",
    "Caption",
    "TownScene",
    "letter_boxes",
    "paint",
    "plain_caption",
    "sample_caption",
    "sample_scene",
    "sign_box",
]
