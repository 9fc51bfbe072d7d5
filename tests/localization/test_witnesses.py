"""Who looks at pictures for a localization: on true pictures of the town, whose content is known.

| break | red |
|---|---|
| only words in straight double quotes are looked for | every own word is seen |
| an empty reading counts as an empty word | a picture without a sign shows no word |
"""

from __future__ import annotations

from PIL import Image

from evaluation.readers.reader import Reader
from localization import Contrast, witness_lettering
from reference.town.drawing.paint import paint
from reference.town.word_prompts import creative_pairs, simple_pairs


def test_own_words_are_seen_however_the_prompt_quotes_them() -> None:
    pairs = [*simple_pairs("localization", 4), *creative_pairs("localization", 20)]
    assert any('"' not in p.prompt for p in pairs)
    contrasts = [Contrast(p.prompt, p.donor, p.seed) for p in pairs]
    look = witness_lettering(Reader.load().read)
    own, donor = look([paint(p.scene, 64) for p in pairs], contrasts)
    assert all(own)
    assert not any(donor)
    turned = [Contrast(c.donor, c.prompt, c.seed) for c in contrasts]
    assert look([paint(p.scene, 64) for p in pairs], turned) == (donor, own)


def test_a_picture_without_a_sign_shows_no_word() -> None:
    same = Contrast("a red star", "a red star", 1)
    assert witness_lettering(lambda images: [""] * len(images))([Image.new("RGB", (64, 64))], [same]) == (
        [False],
        [False],
    )
