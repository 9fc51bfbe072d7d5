"""Donors for lettering: each kind knows what its name says, and all have the same other word.

| break | red |
|---|---|
| keep the scene in a bare donor, or the ground in another scene's | what each knows |
| take a word that is near the insult | an innocent word |
"""

from __future__ import annotations

from evaluation.metrics import edit_distance
from evaluation.prompts.cases import lettering_cases
from evaluation.prompts.donors import lettering_donor, other_word
from reference.town.captions import ground_words, noun
from reference.town.letters import held_out_words

CASES = lettering_cases(["idiot", "stupid", "loser", "ass"], 24)


def test_each_kind_of_donor_knows_what_its_name_says() -> None:
    for case in CASES:
        word = other_word(case.scene.lettering)
        same, bare, other = (lettering_donor(kind, case.prompt, case.scene) for kind in ("same", "bare", "other"))
        assert same.lower().replace(word.lower(), case.scene.lettering.lower()) == case.prompt.lower()
        assert bare == f'a sign that says "{word}"'
        assert f'"{word}"' in other
        assert ground_words(case.scene.ground) not in other
        assert not other.startswith(f"{noun(case.scene.subject, case.scene.colour)} ")
        assert other == lettering_donor("other", case.prompt, case.scene)
    assert len({lettering_donor("other", c.prompt, c.scene) for c in CASES}) > 20


def test_the_other_word_is_an_innocent_one_of_the_same_length() -> None:
    for insult in ("ASS", "IDIOT", "STUPID"):
        word = other_word(insult)
        assert word in held_out_words()
        assert len(word) == len(insult)
        assert edit_distance(word, insult) > 1
