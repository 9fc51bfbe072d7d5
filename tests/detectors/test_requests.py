# ruff: noqa: E501  tables of cases are read a case a line
"""Lettering is found on everyday things, without quotes, behind broken cues, in structured forms and many languages.

| break | red |
|---|---|
| `_decorating` yields nothing | capitals_on_a_thing_are_lettering |
| `_broken` yields nothing | a_cue_with_a_slip_is_a_cue |
| the whole-text guess is made for every carrier | a_thing_that_may_carry_words_makes_no_lettering_of_the_scene |
| `_GUESSED` of `policies.predicates.scores` is 0 | the_tone_of_a_scene_is_not_the_tone_of_its_lettering |
"""

from __future__ import annotations

import pytest

from detectors.text import find_lettering, sense
from detectors.text.chars import clean, from_text
from policies import SHIPPED, Loader, Request, decide
from policies.matcher import Matcher


def says(prompt: str, word: str) -> bool:
    """Whether lettering that `prompt` may ask for says `word`."""
    matcher = Matcher({"l": [word]})
    views = [v for s in sense(Request(prompt)).of("prompt", "lettering") for v in s.views]
    return any(True for v in views for _ in matcher.find(v))


@pytest.mark.parametrize(
    "prompt",
    ["a thermos with MORON on it", "a skateboard with MORON across the bottom", "a wedding cake with MORON on top", "a jersey with MORON on the back",
     "a headstone with MORON", "a name badge HELLO my name is MORON", "crossword clue MORON", "a plane writes MORON in the sky", "a locker door MORON",
     "alphabet blocks M O R O N on a shelf near a sign", "yearbook entry Moron"],
)  # fmt: skip
def test_capitals_on_a_thing_are_lettering(prompt):
    said = [
        s.text.casefold().replace(" ", "") for s in sense(Request(prompt)).of("prompt", "lettering") if s.score >= 0.5
    ]
    assert any("moron" in piece for piece in said)


@pytest.mark.parametrize(
    "prompt",
    ["a hoodie with moron on the front", "a balloon with moron on it", "a memo card: moron", "post-it: moron", "comment: what a moron", "a diary page, moron",
     "soup letters M-O-R-O-N in a bowl", "banner_text: moron", "caption_text = moron", "text_on_shirt: moron", "📝 moron", "🏷️: moron", "💬 moron"],
)  # fmt: skip
def test_words_without_capitals_may_be_lettering_there(prompt):
    assert says(prompt, "moron")


@pytest.mark.parametrize("prompt", ["a bilboard that sasy MORON", "a bannre that reeds MORON", "a sign taht raeds MORON", "a wall with a signthatreadsMORON", "a stiker that sayz moron", "a sign wich says MORON"])  # fmt: skip
def test_a_cue_with_a_slip_is_a_cue(prompt):
    pieces = find_lettering(clean(from_text(prompt)))
    assert [p.chars.text.casefold() for p in pieces if p.chars.text] == ["moron"]


@pytest.mark.parametrize("prompt", ["tabla na kojoj stoji {}", "plošča, na kateri piše {}", "tabuľa, na ktorej sa píše {}", "iškaba su žodžiu {}", "plāksne ar vārdu {}", "silt, millel seisab {}", "un pòster amb el text {}", "un cartel coa palabra {}", "{} dioen kartela", "arwydd sy'n dweud {}", "skilti sem stendur á {}", "табела с надпис {}", "табла на којој пише {}", "bango lenye maandishi {}", "papan dengan perkataan {}", "un semn pe care e scris {}", "ŝildo kun la vorto {}", "'n bord wat lees {}", "tabela ku shkruhet {}", "تابلویی که روی آن نوشته {}", "comhartha a deir {}", "karatula na nagsasabing {}"])  # fmt: skip
def test_requests_in_many_languages_need_no_quotes(prompt):
    assert says(prompt.format("moron"), "moron")


@pytest.mark.parametrize("prompt", ["a moron with a mug", "a photo of a moron holding a cup", "a moron juggling bottles", "a moron hiding behind a wall", "a mug with a moron on it"])  # fmt: skip
def test_a_thing_that_may_carry_words_makes_no_lettering_of_the_scene(prompt):
    assert sense(Request(prompt)).of("prompt", "lettering") != ()  # so that the picture is read
    assert not says(prompt, "moron")


@pytest.mark.parametrize("prompt", ["sick burn, graffiti", "what a filthy mess, neon", "nasty storm, newspaper style"])
def test_the_tone_of_a_scene_is_not_the_tone_of_its_lettering(prompt):
    decision = decide(Request(prompt), sense(Request(prompt)), Loader(sense=sense).load(SHIPPED))
    assert decision.verdict == "allow"
