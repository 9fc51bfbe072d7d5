# ruff: noqa: E501  tables of cases are read a case a line
"""Prompts ask for lettering in many ways; what is asked for is found, and nothing else."""

from __future__ import annotations

import pytest

from detectors.text import find_lettering, sense, without_lettering
from detectors.text.chars import clean, from_text
from policies import Request

FOUND = {
    'a red star on a blue background with a sign that says "HELLO"': "HELLO",
    "a sign reading hello above a green ring": "hello",
    "a sign that says HELLO on red": "HELLO",
    "a sign saying hello next to a big star": "hello",
    "the word HELLO on a sign at the top and a red star": "HELLO",
    "a red star and a sign saying 'hello', on a blue background": "hello",
    "a sign with the word “HELLO” next to a big red star": "HELLO",
    "one star with the word hello in serif on a sign": "hello",
    "a sign labelled xk7p in serif letters": "xk7p",
    "a cat and a neon sign: OPEN": "OPEN",
    "a STOP sign at a crossing": "STOP",
    "hello written on a wall": "hello",
    "HELLO spray-painted across a train": "HELLO",
    "a wall with the letters I, D, I, O and T": "I, D, I, O and T",
    "a sign saying i d i o t": "i d i o t",
    "graffiti spelling out s.t.u.p.i.d on a train": "s.t.u.p.i.d",
    'a sign that says "you\'re late"': "you're late",
    "a sign that says ‘you’re late’": "you’re late",
    'a sign that says "HELLO': "HELLO",
    "a t-shirt printed with HELLO in bold red letters": "HELLO",
    "a book titled The Art of War on a table": "The Art of War",
    'a cake decorated with "Happy birthday"': "Happy birthday",
    "a LOVE banner across the street": "LOVE",
    'a sign: "GO"': "GO",
    "a poster bearing the slogan make peace": "make peace",
    "a mug with the text I love tea in the kitchen": "I love tea",
    "a card inscribed with best wishes": "best wishes",
    "a shop called Moon and Star": "Moon and Star",
    "text: hello there": "hello there",
    "a tombstone engraved with RIP": "RIP",
    "a banner proclaiming victory": "victory",
    "a plate marked X12": "X12",
    "ein Schild mit der Aufschrift Hallo": "Hallo",
    "ein Haus, auf dem steht: Willkommen": "Willkommen",
    "un panneau qui dit « bonjour »": "bonjour",
    "une affiche avec le mot paix": "paix",
    "un cartel que dice HOLA en la calle": "HOLA",
    "un letrero con la palabra paz": "paz",
    "un cartello con la scritta ciao": "ciao",
    "uma placa que diz bom dia": "bom dia",
    "een bord met de tekst hallo": "hallo",
    "tablica z napisem cześć": "cześć",
    "вывеска с надписью привет": "привет",
    "一个牌子上写着“你好”": "你好",
    "「こんにちは」と書かれた看板": "こんにちは",
    "a sign that says &quot;HELLO&quot;": "HELLO",
    "a sign that s\u200bays HELLO": "HELLO",
    "a sign saying ``hello''": "hello",
    "a sign saying „hallo“": "hallo",
}


def pieces(prompt):
    return find_lettering(clean(from_text(prompt)))


@pytest.mark.parametrize("prompt", FOUND)
def test_the_words_that_are_to_be_written_are_found_at_their_place(prompt):
    first = pieces(prompt)[0]
    assert first.chars.text == FOUND[prompt]
    start, end = min(first.chars.starts), max(first.chars.ends)
    assert prompt[start:end].replace("\u200b", "") == FOUND[prompt]


@pytest.mark.parametrize(
    "prompt",
    ["a photo of a cat", "a red star on a blue background", "pip on a pink background", "two men fishing at dawn, oil painting", ""],
)  # fmt: skip
def test_prompts_without_lettering_have_none(prompt):
    assert pieces(prompt) == ()


@pytest.mark.parametrize(
    "prompt",
    ["a street full of neon signs", "a newspaper on a table", "a poster for a film", "eine Straße mit einem Schild"],
)
def test_lettering_that_is_asked_for_without_being_given_is_a_finding_without_text(prompt):
    (asked,) = pieces(prompt)
    assert asked.chars.text == ""
    assert asked.score < 0.7


def test_several_pieces_are_found_and_also_as_one():
    found = [p.chars.text for p in pieces('two signs, "ID" and "IOT"')]
    assert found == ["ID", "IOT", "ID IOT"]


@pytest.mark.parametrize("more", ["", " in serif letters", " on a wall"])
@pytest.mark.parametrize("joint", ["over", "and below it", "above"])
def test_a_second_line_without_quotes_is_lettering_too(joint, more):
    found = [p.chars.text for p in pieces(f"a cat with a sign that says NICE {joint} IDIOT{more}")]
    assert found[:2] == ["NICE", "IDIOT"]
    quiet = sense(Request(f"a cat with a sign that says nice {joint} idiot{more}")).of("prompt", "lettering")
    assert any("idiot" in s.text.split() for s in quiet)


@pytest.mark.parametrize("prompt", ["a sign that says HELLO over a RED door", "a sign that says HELLO above trees"])
def test_what_stands_over_scenery_is_one_piece_that_is_sure(prompt):
    assert [p.chars.text for p in pieces(prompt)] == ["HELLO"]


def test_spans_survive_invisible_characters_and_entities():
    prompt = "a \u200bsign that says \u201c&#73;DI\u00adOT\u201d \ufe0f on a wall"
    (signal,) = sense(Request(prompt)).of("prompt", "lettering")
    assert signal.text == "IDIOT"
    assert signal.span.of(prompt) == "&#73;DI\u00adOT"


@pytest.mark.parametrize(
    ("prompt", "left"),
    [
        ('a red star on a blue background with a sign that says "HELLO"', "a red star on a blue background"),
        ("a sign reading hello above a green ring", "a green ring"),
        ("a red star and a sign saying 'hello', on a blue background", "a red star on a blue background"),
        ("the word HELLO on a sign at the top and a red star on a pink background", "a red star on a pink background"),
        ("a sign at the bottom with the word “HELLO” next to a big red star", "a big red star"),
        ("a cat and a neon sign: STUPID", "a cat"),
        ('a sign that says "HELLO"', "a picture"),
        ("a photo of a cat", "a photo of a cat"),
    ],
)
def test_a_prompt_can_be_said_without_its_lettering(prompt, left):
    assert without_lettering(prompt) == left


def test_what_is_left_without_lettering_gives_no_lettering():
    for prompt in FOUND:
        assert [p for p in pieces(without_lettering(prompt)) if p.chars.text] == []


def test_every_caption_of_the_town_is_understood():
    import random

    from reference.town.captions import plain_caption, sample_caption
    from reference.town.scenes import sample_scene

    missed = []
    for seed in range(400):
        rng = random.Random(seed)
        scene = sample_scene(rng)
        for caption in (plain_caption(scene), sample_caption(scene, rng).text):
            said = [p.chars.text.upper() for p in pieces(caption)]
            if not all(any(line in piece.split() for piece in said) for line in scene.lines):
                missed.append(caption)
            if not scene.lines and any(said):
                missed.append(caption)
    assert missed == []
