"""The town: a world of pictures whose content is known exactly, with captions, judges and prompt sets.

A scene has one subject (a coloured shape, an animal, a named character or person, a thing that stands for harm) on a
coloured background or in a place, sometimes in a named style, sometimes with a sign. These are the subjects of a safety
service in miniature. `scenes` defines a scene and `letters` what its sign may say. `drawing/` draws it, and `layout`
places its letters. `captions` describes it, and `judge` tells what a picture shows. `prompts` and `word_prompts` make
prompt sets. Everything is deterministic from a seed.
"""

from reference.town.captions import CAPTION_BYTES, Caption, plain_caption, sample_caption
from reference.town.drawing.paint import paint
from reference.town.layout import letter_boxes, sign_box
from reference.town.scenes import CATEGORIES, GROUNDS, SUBJECTS, Scene, sample_scene

__all__ = [
    "CAPTION_BYTES",
    "CATEGORIES",
    "GROUNDS",
    "SUBJECTS",
    "Caption",
    "Scene",
    "letter_boxes",
    "paint",
    "plain_caption",
    "sample_caption",
    "sample_scene",
    "sign_box",
]
