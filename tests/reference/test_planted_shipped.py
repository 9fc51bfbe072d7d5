"""The plants that are shipped: each is its host's, its proof holds, and pictures of eight of them say so again.

Nothing here is skipped: what is asked of plants is asked of those that are there.

Mutations: a planted file under another model's folder; a check of a file's header changed; a delta with its factors
set to zero (seen on files made for the purpose).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reference.folders import MODELS
from reference.planted import KINDS, LARGEST, PLANTS, Plant, load_plants, planted
from reference.planted.check import PlantChecker
from reference.planted.make import read_ledger
from reference.planted.places import places_of
from reference.planted.words import load_judge
from reference.recipes import NAMES
from steering import Host, NotSupported

ALL = load_plants(PLANTS, recursive=True)
SHIPPED = [name for name in NAMES if (MODELS / name).is_dir()]
# their rows of text have masks and rotations of their own, which plants are not taught
BARE = {"signpost-zimage", "signpost-qwen"} & set(SHIPPED)


def some(plants: list[Plant], count: int = 8) -> list[Plant]:
    """Plants spread evenly over those given."""
    return [plants[i * len(plants) // count] for i in range(min(count, len(plants)))] if plants else []


@contextmanager
def host_of(model: str) -> Iterator[Host]:
    host = Host.load(MODELS / model, self_test=False)
    yield host
    host.close()


def test_every_shipped_plant_is_small_and_proves_its_answer() -> None:
    assert len({(p.model, p.name) for p in ALL}) == len(ALL)
    for plant in ALL:
        assert plant.file is not None
        assert plant.file.parent == PLANTS / plant.model
        assert plant.file.stat().st_size < LARGEST
        assert plant.faults == (), f"{plant.file}: {plant.faults}"


def test_the_ledgers_tell_of_every_plant_and_of_the_rejected_ones() -> None:
    for folder in {p.file.parent for p in ALL if p.file}:
        admitted = {row["name"] for row in read_ledger(folder) if not row["faults"]}
        assert admitted == {p.name for p in ALL if p.model == folder.name}


def test_with_all_models_there_are_forty_plants() -> None:
    if len(SHIPPED) == len(NAMES):
        assert len(ALL) >= 40


def test_plants_are_of_every_kind_and_of_every_model() -> None:
    assert {p.kind for p in ALL} == set(KINDS)
    assert {d.trick for p in ALL for d in p.distractors} == {"attention", "bias", "against"}
    assert {p.model for p in ALL} == set(SHIPPED) - BARE
    for model in sorted(BARE):
        with host_of(model) as host, pytest.raises(NotSupported, match="masks or rotations of a row go with its text"):
            places_of(host)


def test_plants_were_made_for_these_weights() -> None:
    for model in sorted({p.model for p in ALL}):
        with host_of(model) as host:
            for plant in (p for p in ALL if p.model == model):
                assert plant.host.differences(host.fingerprint) == ()


@pytest.mark.slow
def test_pictures_of_eight_plants_show_their_subject_and_lose_it_where_it_was_planted() -> None:
    told: dict[str, Counter[bool]] = {role: Counter() for role in ("plain", "a", "b")}
    chosen = some([p for p in ALL if p.kind != "spread"])
    for model in dict.fromkeys(p.model for p in chosen):
        with host_of(model) as host:
            for plant in (p for p in chosen if p.model == model):
                for role, seen in look(host, plant).items():
                    told[role][seen] += 1
    for role, counts in told.items():
        assert counts.total() == len(chosen) == 8
        assert counts[role != "a"] >= 7, f"({role}) {dict(counts)}"


def look(host: Host, plant: Plant) -> dict[str, bool]:
    """Whether the subject is seen, with and without swaps: three pictures of one call, each with its own plan."""
    places = places_of(host)
    see = load_judge()
    steps = int(plant.recipe["pipeline steps"])
    checker = PlantChecker(host, places, plant.called, plant.neutral, plant.check_frames, see, steps)
    swaps = {"plain": (), "a": plant.sites, "b": tuple(n for n in places if n not in plant.sites)}
    frame = plant.check_frames[0]
    with planted(host, plant):
        images = host.generate(
            [frame.replace("{}", plant.called)] * len(swaps),
            plans=[checker.plan(frame, swapped) for swapped in swaps.values()],
            seeds=[9000] * len(swaps),
            num_inference_steps=steps,
        ).images
    return {role: plant.subject in told for role, told in zip(swaps, see(images), strict=True)}


def test_nothing_lies_among_the_plants_but_plants_and_ledgers() -> None:
    allowed = {".safetensors", ".jsonl", ".json"}
    files = [f for f in Path(PLANTS).rglob("*") if f.is_file()]
    assert {f.suffix for f in files} <= allowed
