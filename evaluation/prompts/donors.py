"""Donors for lettering that know more or less of the picture: its whole caption, only the sign, or another scene."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Literal, get_args

from evaluation.metrics import edit_distance
from reference.town.captions import plain_caption
from reference.town.letters import held_out_words
from reference.town.scenes import Scene, sample_scene

__all__ = ["DONORS", "DonorKind", "lettering_donor", "other_word"]

DonorKind = Literal["same", "bare", "other"]
DONORS: tuple[DonorKind, ...] = get_args(DonorKind)


def lettering_donor(kind: DonorKind, prompt: str, scene: Scene) -> str:
    """A donor whose sign says `other_word` of the scene's: the prompt itself with it (`same`), `a sign that says "X"`
    (`bare`), or the caption of another scene, of another subject on another ground, with the same kind of sign
    (`other`)."""
    own = scene.lettering
    word = other_word(own)
    if kind == "bare":
        return f'a sign that says "{word}"'
    if kind == "other":
        return plain_caption(replace(_elsewhere(prompt, scene), lines=(word,), font=scene.font, spot=scene.spot))
    at = prompt.upper().index(own)  # captions write the word in one case or another
    return prompt[:at] + word + prompt[at + len(own) :]


def other_word(word: str) -> str:
    """An innocent word of the same length, always the same one for a word."""
    others = [w for w in held_out_words() if len(w) == len(word) and edit_distance(w, word) > 1]
    return others[sum(map(ord, word)) % len(others)]


def _elsewhere(prompt: str, scene: Scene) -> Scene:
    """A scene of another subject on another ground, the same one for a prompt."""
    rng = random.Random(f"town/elsewhere/{prompt}")
    while True:
        found = sample_scene(rng, lines=(scene.lettering,))
        if found.subject != scene.subject and found.ground != scene.ground:
            return found
