"""Views undo disguises, map every character back to the original, and leave honest text alone."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.text import make_views
from detectors.text.chars import clean, from_text

CYRILLIC = str.maketrans("aceiopsxyj", "асеіорѕхуј")
WIDE = {ord("a") + i: 0xFF41 + i for i in range(26)}
CIRCLED = {ord("a") + i: 0x24D0 + i for i in range(26)}
MATHS = {ord("a") + i: 0x1D41A + i for i in range(26)}
LEET = str.maketrans("aeiosl", "4310$1")
UPSIDE = dict(zip(map(ord, "abcdefghijklmnopqrstuvwxyz"), "ɐqɔpǝɟƃɥᴉɾʞꞁɯuodbɹsʇnʌʍxʎz", strict=True))
OPERATORS = {
    "capitals": str.upper,
    "cyrillic": lambda w: w.translate(CYRILLIC),
    "full-width": lambda w: w.translate(WIDE),
    "circled": lambda w: w.translate(CIRCLED),
    "mathematical": lambda w: w.translate(MATHS),
    "zero-width": lambda w: "\u200b".join(w),
    "soft-hyphen": lambda w: w[:2] + "\u00ad" + w[2:],
    "variation-selector": lambda w: "\ufe0f".join(w),
    "tag-characters": lambda w: w[:2] + "\U000e0061" + w[2:],
    "struck-through": lambda w: "".join(c + "\u0336" for c in w),
    "accents": lambda w: w.replace("o", "ö").replace("u", "ú").replace("i", "ï").replace("e", "ê"),
    "bidi-override": lambda w: "\u202e" + w[::-1] + "\u202c",
    "leet": lambda w: w.translate(LEET),
    "spaces": " ".join,
    "dots": ".".join,
    "dashes": "-".join,
    "repeats": lambda w: w[:2] + w[2] * 4 + w[3:],
    "doubled": lambda w: w[0] + w[1] * 2 + w[2:],
    "upside-down": lambda w: w.translate(UPSIDE)[::-1],
    "entities": lambda w: f"&#{ord(w[0])};" + w[1:],
    "small-l-as-capital-i": lambda w: w.replace("l", "I"),
    "one-as-l": lambda w: w.upper().replace("L", "1"),
}
WORDS = ("stupid", "loser", "creepo", "vilest", "lousey", "yuckos")


@pytest.mark.parametrize("operator", OPERATORS)
def test_some_view_shows_the_word_that_was_disguised(operator):
    from policies.matcher import Matcher

    matcher = Matcher({"l": WORDS})
    for word in WORDS:
        text = OPERATORS[operator](word)
        matches = {(m.word, m.start, m.end) for v in make_views(text, piece=True) for m in matcher.find(v)}
        assert {m[0] for m in matches} == {word}, text
        bounds = min(m[1] for m in matches), max(m[2] for m in matches)
        assert bounds == ((1, len(text) - 1) if operator == "bidi-override" else (0, len(text)))


def test_each_character_of_a_disguise_points_at_its_own_place():
    (skeleton,) = [v for v in make_views("an іdіоt") if v.name == "skeleton"]
    assert skeleton.text == "an idiot"
    assert skeleton.starts == tuple(range(8))
    (joined,) = [v for v in make_views("a b.c.d e") if v.name == "joined"]
    assert [("a b.c.d e"[a:b]) for a, b in zip(joined.starts, joined.ends, strict=True)] == list(joined.text)
    (repeats,) = [v for v in make_views("nooo way") if v.name == "repeats"]
    assert [("nooo way"[a:b]) for a, b in zip(repeats.starts, repeats.ends, strict=True)] == [*"n", "ooo", *" way"]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60), st.booleans(), st.integers(0, 5))
def test_every_character_of_every_view_comes_from_the_text(text, piece, start):
    for view in make_views(text, start, piece=piece):
        assert len(view.text) == len(view.starts) == len(view.ends)
        for a, b in zip(view.starts, view.ends, strict=True):
            assert start <= a < b <= start + len(text)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
def test_the_plain_view_of_ascii_is_itself_in_small_letters(text):
    view = make_views(text)[0]
    expected = clean(from_text(text)).text.lower()
    assert view.text == expected
    if "&" not in text and "%" not in text and "\\" not in text:  # which begin an escape, read as one character
        assert all(text[a:b].lower() == c for a, b, c in zip(view.starts, view.ends, view.text, strict=True))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_cleaning_twice_changes_nothing(text):
    once = clean(from_text(re.sub(r"[&%\\]", "", text)))  # escapes: what one stands for may complete another
    assert clean(once).text == once.text


@pytest.mark.parametrize(
    "text", ["a red star on a blue background", "Привет, мир", "Καλημέρα κόσμε", "你好世界", "مرحبا", "한글"]
)
def test_honest_text_in_any_script_has_one_view_beside_the_guess_that_it_is_not_honest(text):
    names = [v.name for v in make_views(text) if v.name != "repeats"]
    assert names[0] == "folded"
    assert set(names[1:]) <= {"script", "script-leet"}


@pytest.mark.parametrize("text", ["XK7P", "B2B", "4X4", "2026", "H2O", "R2D2"])
def test_codes_keep_their_plain_view_and_short_words_are_not_read_into_them(text):
    views = make_views(text, piece=True)
    assert views[0].text == text.lower()
    assert all(v.least >= 4 for v in views if v.form == "leet")


def test_time_grows_with_the_length_of_a_text_and_not_faster():
    import time

    part = 'a sign that says "st\u200bup1d і d і o t" beside '
    times = {1: [], 16: []}
    for _ in range(30):
        for count, taken in times.items():
            start = time.thread_time()
            make_views(part * count)
            taken.append(time.thread_time() - start)
    assert min(times[16]) < 2 * 16 * min(times[1])
