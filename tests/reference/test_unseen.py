"""Creatures that no model has seen: how they are drawn and written to folders, and what verifiers learn from.

| break | red |
|---|---|
| draw `trim` with the colour of `marks` | sisters differ to the eye |
| paint the scene's own subject as well | a drawing replaces the subject and nothing else |
| ignore `called` in captions | captions name what they are told |
| take grounds that are kept for evaluation | subjects stand on grounds of their own |
| write the caption of the picture before | a folder is read back as it was written |
| draw signs with words of the list | no sign to train on says a held-out string |
| let held-out examples take any ground | examples that are held out share no scenery |
| leave the portrait out of a verifier's name | a creature's verifier is found again |
"""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reference.town.captions import plain_caption, sample_caption
from reference.town.drawing.paint import paint
from reference.town.drawing.unseen import ATTRIBUTES, Creature
from reference.town.image_folders import (
    class_pictures,
    sign_pictures,
    subject_pictures,
    subject_scenes,
    write_imagefolder,
)
from reference.town.letters import is_held_out
from reference.town.prompts import is_for_evaluation
from reference.town.scenes import ANIMALS, Scene, sample_scene
from reference.town.verifier import KINDS, VerifierRecipe, examples, train_verifier

CREATURE = Creature.of(3)


def portrait(creature: Creature | None = None, subject: str = "cat") -> np.ndarray:
    scene = Scene(subject, None, "gray", None, (), "mono", "bottom", 0.5, 0.5, 0.26)
    return np.asarray(paint(scene, drawing=creature.draw if creature else None), np.float32)


def test_a_seed_determines_a_creature_and_seeds_reach_every_attribute() -> None:
    assert Creature.of(3) == CREATURE
    drawn = [Creature.of(seed) for seed in range(200)]
    assert len(set(drawn)) >= 198
    for name, values in ATTRIBUTES.items():
        assert {getattr(c, name) for c in drawn} == set(values)


@pytest.mark.parametrize("seed", range(6))
def test_sisters_differ_to_the_eye(seed: int) -> None:
    creature = Creature.of(seed)
    sisters = creature.sisters()
    assert len(set(sisters)) == len(sisters) == sum(len(v) - 1 for v in ATTRIBUTES.values())
    own = portrait(creature)
    for sister in sisters:
        assert sum(getattr(sister, n) != getattr(creature, n) for n in ATTRIBUTES) == 1
        seen = np.abs(portrait(sister) - own).mean(-1) > 20
        assert seen.sum() >= 8, sister  # pixels of 64 x 64 at which the eye sees a difference


def test_creatures_differ_from_one_another_and_from_the_animals_of_the_town() -> None:
    drawn = [portrait(Creature.of(seed)) for seed in range(20)] + [portrait(subject=a) for a in ANIMALS]
    for a, b in itertools.combinations(drawn, 2):
        assert np.abs(a - b).mean() > 3


@pytest.mark.parametrize("size", [64, 128])
def test_a_drawing_replaces_the_subject_and_nothing_else(size: int) -> None:
    rng = random.Random(0)
    for _ in range(10):
        scene = sample_scene(rng, size=size, subject="owl")
        own, other = (np.asarray(paint(scene, size, drawing=d)) for d in (None, CREATURE.draw))
        assert np.array_equal(other, np.asarray(paint(scene, size, drawing=CREATURE.draw)))
        rows, columns = np.nonzero((own != other).any(-1))
        reach = (scene.radius * 1.3 + 0.05) * size
        assert len(rows) > 50
        assert np.abs(rows - scene.y * size).max() <= reach
        assert np.abs(columns - scene.x * size).max() <= reach
        cat = Scene(**{f: getattr(scene, f) for f in Scene.__slots__} | {"subject": "cat"})
        assert np.array_equal(other, np.asarray(paint(cat, size, drawing=CREATURE.draw)))


def test_captions_name_what_they_are_told_and_say_the_rest_as_ever() -> None:
    rng = random.Random(1)
    for _ in range(200):
        scene = sample_scene(rng, subject="owl")
        seed = rng.random()
        assert plain_caption(scene, called="zev animal") == plain_caption(scene).replace("an owl", "zev animal", 1)
        told = sample_caption(scene, random.Random(seed), vague=0.5, called="zev animal")
        assert "zev animal" in told.text
        assert "owl" not in told.text
        for at, line in zip(told.lettering, scene.lines, strict=True):
            assert told.text.lower().encode()[at:].startswith(line.lower().encode())


def test_subjects_stand_on_grounds_of_their_own_and_none_that_evaluation_asks_for() -> None:
    scenes = subject_scenes(8, seed=2)
    assert scenes == subject_scenes(8, seed=2) != subject_scenes(8, seed=3)
    assert len({s.ground for s in scenes}) == 8
    assert not any(is_for_evaluation(s.ground, s.style) for s in scenes)
    with pytest.raises(ValueError, match="count must be from 1 to 9, the grounds to train on, got 10"):
        subject_scenes(10, seed=0)


def test_a_folder_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    pictures = subject_pictures(CREATURE, "zev animal", 5, seed=0)
    assert write_imagefolder(tmp_path / "a", pictures) == 5
    lines = [json.loads(line) for line in (tmp_path / "a" / "metadata.jsonl").read_text("utf-8").splitlines()]
    for line, (image, text), scene in zip(lines, pictures, subject_scenes(5, seed=0), strict=True):
        read = Image.open(tmp_path / "a" / line["file_name"])
        assert np.array_equal(np.asarray(read), np.asarray(image))
        assert np.array_equal(np.asarray(read), np.asarray(paint(scene, drawing=CREATURE.draw)))
        assert line["text"] == text == plain_caption(scene, called="zev animal")
    with pytest.raises(FileExistsError, match="folder must be empty"):
        write_imagefolder(tmp_path / "a", pictures)


def test_class_pictures_are_captioned_by_the_class_alone() -> None:
    made = class_pictures(40, seed=0)
    assert [text for _, text in made] == [text for _, text in class_pictures(40, seed=0)]
    assert all("an animal" in text for _, text in made)
    assert not [text for _, text in made if any(name in text.split() for name in ANIMALS)]


@pytest.mark.parametrize("lines", [1, 2])
def test_no_sign_to_train_on_says_a_held_out_string(lines: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Scene] = []

    def look(scene: Scene, size: int) -> Image.Image:
        shown.append(scene)
        return Image.new("RGB", (size, size))

    monkeypatch.setattr("reference.town.image_folders.paint", look)
    texts = [text.upper() for _, text in sign_pictures(500, lines=lines, seed=0)]
    assert {len(s.lines) for s in shown} == {lines}
    assert not [line for s in shown for line in s.lines if is_held_out(line)]
    assert all(line in text for text, s in zip(texts, shown, strict=True) for line in s.lines)
    with pytest.raises(ValueError, match="lines must be 1 or 2, got 3"):
        sign_pictures(1, lines=3, seed=0)


def test_an_unknown_attribute_is_refused() -> None:
    with pytest.raises(ValueError, match=r"body must be one of .* got `flat`"):
        Creature("flat", "long", "one", "ball", "spots", "red", "yellow", "pink")


def test_examples_that_are_held_out_share_no_scenery_and_no_word_with_the_others() -> None:
    told, held = (examples(CREATURE, 800, seed=0, held_out=h) for h in (False, True))
    assert told == examples(CREATURE, 800, seed=0)
    for drawn in (told, held):
        assert {e.kind for e in drawn} == set(KINDS)
        for e in drawn:
            assert (e.creature == CREATURE) == (e.kind == "subject")
            assert (e.creature in CREATURE.sisters()) == (e.kind == "sister")
            assert (e.creature is None) == (e.kind == "town")
    pairs, words = ([{(e.scene.ground, e.scene.style) for e in d} for d in (told, held)], [])
    assert not pairs[0] & pairs[1]
    words = [{line for e in d for line in e.scene.lines if len(line) > 2} for d in (told, held)]
    assert words[0]
    assert words[1]
    assert not words[0] & words[1]


def test_a_creature_s_verifier_is_found_again_and_each_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = VerifierRecipe(widths=(8, 16), count=16, steps=2)
    said: list[str] = []
    first = train_verifier(CREATURE, recipe, work=tmp_path, log=said.append)
    assert not said
    again = train_verifier(CREATURE, recipe, work=tmp_path, log=said.append)
    assert said == [f"{next(iter(tmp_path.glob('*.pt'))).stem}: resumed at step 2"]
    afresh = train_verifier(CREATURE, recipe, work=tmp_path / "b", log=said.append)
    pictures = [e.paint(64) for e in examples(CREATURE, 8, seed=4)]
    assert torch.equal(first.features(pictures), again.features(pictures))
    assert torch.equal(first.features(pictures), afresh.features(pictures))
    assert first.features(pictures).norm(dim=-1).allclose(torch.ones(8))
    other = train_verifier(CREATURE.sisters()[0], recipe, work=tmp_path, log=said.append)
    assert len(list(tmp_path.glob("*.pt"))) == 2
    assert not torch.equal(first.features(pictures), other.features(pictures))
    monkeypatch.setattr(Creature, "draw", lambda _, pen: pen.disc(0, 0, 1, 1, (9, 9, 9)))
    train_verifier(CREATURE, recipe, work=tmp_path, log=said.append)
    assert len(list(tmp_path.glob("*.pt"))) == 3, "another drawing needs another verifier"
