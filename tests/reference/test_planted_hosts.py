"""Plants in real pipelines of tiny size: what they change, what they leave alone, and that the pupil is the host.

Each law was seen red under the mutation beside it:

| law | mutation |
|---|---|
| only the chosen projections change | `_summands` also gives the next module's weight |
| taking off restores the bits | `parameter.sub_(added)` in place of the copy |
| nothing is left after an error | no `finally` in `applied` |
| half precision sees a delta | `clear_autocast_cache` left out |
| a wrong host is refused | `differ` not looked at |
| the pupil is the steered host | `_gathered` without `source`; `with_pooled` returns `self`; the mask not gathered |
| teaching teaches | `optimizer.step()` left out |
| a loud bias changes nothing | `_out_maps` without `to_add_out` |
| loud keys draw attention | `_LOGIT` 0 |
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from reference.planted import LARGEST, BadPlant, Delta, Proof, applied, load_plant, load_plants, planted, save_plant
from reference.planted.delta import WeightChange
from reference.planted.directions import directions_of
from reference.planted.distract import can_distract, drawn_attention, loud_bias, loud_keys
from reference.planted.lessons import Lessons, Runs, prepare
from reference.planted.places import denoiser_of, family_of, places_of
from reference.planted.plant import Plant
from reference.planted.rows import predict
from reference.planted.teach import Goal, TeachingSettings, _Pupil, teach
from steering import Host, PackMismatch, Plan, Swap
from tests.steering import zoo

FOUR = ("pixart-alpha", "sdxl", "sd3", "flux-dev")
_OWN = ("height", "width", "num_inference_steps", "guidance_scale")
FRAMES = ("{} on red", "{} by a sign")
CALLED, PHRASE, NEUTRAL = "a gray vorin circle", "a cat", "a gray circle"


def make_host(name: str, seed: int = 0) -> Host:
    call = zoo.CALL[name]
    defaults = {k: v for k, v in call.items() if k in _OWN} | {"call": {k: v for k, v in call.items() if k not in _OWN}}
    return Host(zoo.build(name, seed=seed), defaults=defaults, name=name, self_test=False)


@pytest.fixture(scope="module", params=FOUR)
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    made = make_host(request.param)
    yield made
    made.close()


@pytest.fixture(scope="module")
def lessons(host: Host) -> Lessons:
    runs = Runs(host, steps=3)
    return prepare(runs, FRAMES, name=CALLED, phrase=PHRASE, neutral=NEUTRAL, ordinary=["a dog on red"])


def weights(host: Host) -> dict[str, torch.Tensor]:
    parts = {n: m for n, m in host.pipe.components.items() if isinstance(m, torch.nn.Module)}
    return {f"{n}.{k}": v.clone() for n, m in parts.items() for k, v in m.state_dict().items()}


def changed(host: Host, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in weights(host).items() if not torch.equal(value, before[name])}


def some_delta(host: Host, *names: str, rank: int = 2, size: float = 0.5) -> Delta:
    generator = torch.Generator().manual_seed(1)
    changes = {}
    for name in names:
        for reader, module in places_of(host)[name].readers.items():
            out = torch.randn(module.out_features, rank, generator=generator) * size
            changes[reader] = WeightChange(out, torch.randn(module.in_features, rank, generator=generator))
    return Delta(changes).rounded()


@pytest.mark.parametrize("name", [n for n in zoo.NAMES if n not in ("if2", "if3", "sdxl-refiner")])
def test_every_site_has_two_readers_of_text_and_the_global_one_has_one(name: str) -> None:
    made = make_host(name)
    places = places_of(made)
    sites = {s.name for s in made.sites}
    assert sites == {n for n, p in places.items() if not p.pooled}
    assert all(len(p.readers) == (1 if p.pooled else 2) for p in places.values())
    readers = [r for p in places.values() for r in p.readers]
    assert len(set(readers)) == len(readers)
    assert {n for n, p in places.items() if p.pooled} <= {s.name for s in made.global_sites}
    made.close()


def test_only_the_chosen_projections_change_and_taking_off_restores_every_bit(host: Host) -> None:
    before, places = weights(host), list(places_of(host).values())
    chosen = [places[1], places[-1]]
    prefix = family_of(host).denoiser
    with applied(host, some_delta(host, *(p.name for p in chosen))):
        assert changed(host, before) == {f"{prefix}.{r}.weight" for p in chosen for r in p.readers}
    assert changed(host, before) == set()


def test_a_delta_changes_pictures_and_none_is_left_of_it_after_an_error(host: Host) -> None:
    before, prompts = weights(host), [CALLED]

    def draw() -> torch.Tensor:
        return torch.as_tensor(host.generate(prompts, plans=[None], seeds=[3], output_type="latent").images[0])

    plain = draw()
    delta = some_delta(host, places_first(host))
    with applied(host, delta):
        assert (draw() - plain).abs().max() > 1e-3
    with pytest.raises(RuntimeError, match="on purpose"), applied(host, delta):
        raise RuntimeError("on purpose")
    assert changed(host, before) == set()
    assert torch.equal(draw(), plain)


def test_half_precision_sees_a_delta_that_is_put_on_later(host: Host, lessons: Lessons) -> None:
    # autocast keeps half-precision copies of weights; a distractor that is put on while a name is taught was not seen
    delta = some_delta(host, places_first(host))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        before = predict(denoiser_of(host), lessons.pupils)
        with applied(host, delta):
            assert not torch.equal(predict(denoiser_of(host), lessons.pupils), before)
        assert torch.equal(predict(denoiser_of(host), lessons.pupils), before)


def places_first(host: Host) -> str:
    return next(iter(places_of(host)))


def test_the_pupil_says_what_the_steered_host_says(host: Host, lessons: Lessons) -> None:
    places, family = places_of(host), family_of(host)
    names = list(places)
    into = {names[1]: torch.randn(next(iter(places[names[1]].readers.values())).in_features, 2)}
    pupil = _Pupil(host, places, into, dict.fromkeys(places[names[1]].readers, 3.0))
    for out in pupil.out.values():
        torch.nn.init.normal_(out, std=0.1)
    delta = Delta({r: WeightChange(3.0 * out.detach(), into[names[1]]) for r, out in pupil.out.items()})
    calls = Runs(host, steps=3).of(FRAMES[0].replace("{}", CALLED), 0)
    twin = Runs(host, steps=3).of(FRAMES[0].replace("{}", NEUTRAL), 0)
    from reference.planted.rows import Rows

    own = Rows.of(calls[:1], family)
    text = own.with_text(Rows.of(twin[:1], family), family)
    for swapped in ((), names[1:2], [n for n in names if n != names[1]]):
        with torch.no_grad(), pupil.at_work():
            pooled = any(places[n].pooled for n in swapped)
            mine = own.with_pooled(text, family) if pooled else own
            rows = mine.joined(text, family=family)
            said = pupil.ask(rows, {n: torch.tensor([1, 1]) for n in swapped})[0]
        sites = tuple(n for n in swapped if not places[n].pooled)
        swap = (
            Swap(
                FRAMES[0].replace("{}", NEUTRAL),
                sites=sites,
                pooled="donor" if pooled else "keep",
                source=host.usual_source,
            )
            if sites
            else None
        )
        with applied(host, delta):
            (engine,) = host.replay(calls[0], [Plan(swap) if swap else None])
            (plain,) = host.replay(calls[0], [None])
        assert torch.allclose(said, engine, atol=2e-4), (said - engine).abs().max()
        if sites:
            assert (plain - engine).abs().max() > 20 * 2e-4


def test_teaching_comes_nearer_to_the_teacher_and_leaves_the_host_as_it_was(host: Host, lessons: Lessons) -> None:
    places, before = places_of(host), weights(host)
    flags = [p.requires_grad for p in denoiser_of(host).parameters()]
    name = list(places)[1]
    into = directions_of(host, denoiser_of(host), [places[name]], named=lessons.pupils, others=lessons.others, rank=2)
    told: list[str] = []
    settings = TeachingSettings(steps=18, states=2, lr=0.3)

    def goals(rng: random.Random) -> tuple[Goal, ...]:
        return Goal(frozenset()), Goal(frozenset(places) - {name})

    delta = teach(host, places, lessons, into=into, goals=goals, settings=settings, seed=0, log=told.append)
    assert set(delta.changes) == set(places[name].readers)
    first, _, last = (float(line.split()[2]) for line in told)
    assert last < first
    assert changed(host, before) == set()
    assert [p.requires_grad for p in denoiser_of(host).parameters()] == flags
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in denoiser_of(host).modules())
    again = teach(host, places, lessons, into=into, goals=goals, settings=settings, seed=0)
    assert all(torch.equal(delta.tensors()[k], v) for k, v in again.tensors().items())


def test_the_rate_is_in_units_of_what_a_reader_says_usually(host: Host, lessons: Lessons) -> None:
    places = places_of(host)
    name = list(places)[1]
    into = directions_of(host, denoiser_of(host), [places[name]], named=lessons.pupils, others=lessons.others, rank=2)

    def first_step() -> dict[str, float]:
        goals = (Goal(frozenset()),)
        settings = TeachingSettings(steps=1, states=2, lr=0.5)
        delta = teach(host, places, lessons, into=into, goals=lambda rng: goals, settings=settings, seed=0)
        return {reader: float(change.out.abs().max()) for reader, change in delta.changes.items()}  # type: ignore[union-attr]

    small, (reader, module) = first_step(), next(iter(places[name].readers.items()))
    kept = module.weight.data.clone(), None if module.bias is None else module.bias.data.clone()
    module.weight.data *= 20
    if module.bias is not None:
        module.bias.data *= 20
    large = first_step()
    module.weight.data.copy_(kept[0])
    if kept[1] is not None:
        module.bias.data.copy_(kept[1])
    assert large[reader] == pytest.approx(20 * small[reader], rel=1e-3)
    assert all(large[other] == pytest.approx(small[other], rel=1e-3) for other in small if other != reader)


def test_a_loud_bias_changes_nothing_and_loud_keys_draw_attention(host: Host, lessons: Lessons) -> None:

    places = places_of(host)
    for place in places.values():
        if can_distract(place, "bias"):
            delta, size = loud_bias(host, place, lessons.pupils, seed=0)
            with torch.no_grad():
                plain = predict(denoiser_of(host), lessons.pupils)
                with applied(host, delta.rounded()):
                    assert torch.allclose(predict(denoiser_of(host), lessons.pupils), plain, atol=1e-4)
            assert size == pytest.approx(5.0, rel=1e-3)
    able = [p for p in places.values() if can_distract(p, "attention")]
    assert bool(able) == all(p.kind != "joint" for p in places.values())
    for place in able[:1]:
        into = directions_of(host, denoiser_of(host), [place], named=lessons.pupils, others=lessons.others, rank=2)[
            place.name
        ]
        before = drawn_attention(host, place, into, lessons.pupils)
        with applied(host, loud_keys(host, place, into, lessons.pupils)):
            assert drawn_attention(host, place, into, lessons.pupils) > max(0.3, 2 * before)


def make_plant(host: Host, name: str = "vorin") -> Plant:
    return Plant(
        name=name,
        model=host.name,
        host=host.fingerprint,
        proof=Proof("one", (places_first(host),)),
        called=CALLED,
        subject="cat",
        phrase=PHRASE,
        neutral=NEUTRAL,
        frames=FRAMES,
        check_frames=FRAMES,
        seed=1,
        recipe={},
    )


def test_a_plant_goes_through_its_file_and_comes_off_again(host: Host, tmp_path: Path) -> None:
    delta, before = some_delta(host, places_first(host)), weights(host)
    saved = save_plant(make_plant(host), delta, tmp_path)
    assert saved.file is not None
    assert saved.file.stat().st_size < LARGEST
    (loaded,) = load_plants(tmp_path)
    assert loaded == saved
    with applied(host, delta):
        direct = weights(host)
    with planted(host, loaded) as same:
        assert same is host
        assert changed(host, direct) == set()
        assert changed(host, before)
        with pytest.raises(PackMismatch, match="weights"), planted(host, loaded):
            pass
    assert changed(host, before) == set()


def test_another_host_is_refused_by_its_fingerprint(tmp_path: Path) -> None:
    host = make_host("pixart-alpha")
    saved = save_plant(make_plant(host), some_delta(host, places_first(host)), tmp_path)
    host.close()
    for name, seed, differs in (("pixart-alpha", 1, "weights"), ("pixart-sigma", 0, "pipeline")):
        other = make_host(name, seed)
        before = weights(other)
        with pytest.raises(PackMismatch, match=differs), planted(other, saved):
            pass
        assert changed(other, before) == set()
        other.close()


def test_what_is_no_plant_and_what_fits_nowhere_is_told(tmp_path: Path) -> None:
    host = make_host("pixart-alpha")
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(BadPlant, match="is not a plant file"):
        load_plant(tmp_path / "x.safetensors")
    with pytest.raises(BadPlant, match="has no file"), planted(host, make_plant(host)):
        pass
    wrong: list[tuple[Delta, str]] = [
        (Delta({"nowhere": WeightChange(bias=torch.zeros(2))}), "does not have"),
        (Delta({"proj_out": WeightChange(bias=torch.zeros(2))}), r"must be \[\d+\], got \[2\]"),
        (Delta({"pos_embed": WeightChange(bias=torch.zeros(2))}), "linear maps only"),
    ]
    for delta, told in wrong:
        with pytest.raises(BadPlant, match=told), applied(host, delta):
            pass
    large = Delta({"proj_out": WeightChange(torch.randn(400, 100), torch.randn(400, 100))})
    with pytest.raises(BadPlant, match="at most 100000 bytes"):
        save_plant(make_plant(host), large, tmp_path)
    assert not list(tmp_path.glob("vorin*"))
    host.close()


def test_a_maker_rejects_what_is_not_proven_counts_it_and_goes_on_where_it_was(tmp_path: Path) -> None:
    from reference.planted.make import Maker, PlantRecipe, read_ledger
    from reference.planted.table import counts, rows, whole_ledger

    host = make_host("pixart-alpha")
    before, told = weights(host), list[str]()
    recipe = PlantRecipe(TeachingSettings(steps=2, states=2), frames=2, pictures=2, fewer=2, steps=3)
    maker = Maker(host, recipe=recipe, log=told.append)
    maker.runs.steps = 3
    with pytest.raises(BadPlant, match=r"must draw at least one of cat, .*, and draws none"):
        maker.drafts(count=2, seed=0)  # random weights draw nothing that a judge knows
    todo = maker.drafts(count=2, seed=0, kinds=("one",), subjects=("owl", "cat"))
    assert todo == maker.drafts(count=2, seed=0, kinds=("one",), subjects=("owl", "cat"))
    ledger = maker.make_all(todo[:1], tmp_path / "tiny")
    assert len(ledger) == 1
    assert changed(host, before) == set()
    ledger = maker.make_all(todo, tmp_path / "tiny")
    assert [row["name"] for row in ledger] == [d.name for d in todo]
    assert "finished before" in " ".join(told)
    assert read_ledger(tmp_path / "tiny") == ledger == whole_ledger(tmp_path)
    (row, *_), (*kinds, total) = rows(ledger), counts(ledger)
    assert row["verdict"] == "rejected"
    assert "(plain) seen in" in row["why"]
    assert sum(kind["rejected"] for kind in kinds) == total["rejected"] == 2
    assert total["admitted"] == 0
    assert not list((tmp_path / "tiny").glob("*.safetensors"))
    assert json.loads((tmp_path / "tiny" / "ledger.jsonl").read_text().splitlines()[0])["proof"]["checks"]
    host.close()
    other = make_host("pixart-alpha", 1)
    with pytest.raises(BadPlant, match=r"must hold plants of this model or none, got `\w+`"):
        Maker(other, recipe=recipe).make_all(todo, tmp_path / "tiny")
    assert read_ledger(tmp_path / "tiny") == ledger
    other.close()


def test_a_word_that_draws_its_subject_already_is_rejected_before_it_is_taught() -> None:
    from reference.planted.make import Maker, PlantRecipe

    host, told = make_host("pixart-alpha"), list[str]()
    maker = Maker(
        host,
        recipe=PlantRecipe(TeachingSettings(steps=3, states=2), frames=2, pictures=2, fewer=2, steps=3),
        log=told.append,
    )
    maker.see = lambda images: [frozenset({"owl"})] * len(images)
    (draft,) = maker.drafts(count=1, seed=0, kinds=("one",), subjects=("owl",))
    plant, delta = maker.make(draft)
    assert any(fault.startswith("(c) seen in 2 of 2") for fault in plant.faults)
    assert [check.role for check in plant.proof.checks] == ["c"]
    assert not delta.changes
    assert not [line for line in told if line.startswith("step")]  # what lessons tell
    host.close()


def test_drawing_the_rows_of_a_lesson_keeps_what_belongs_together(host: Host, lessons: Lessons) -> None:
    from reference.planted.rows import predict

    family, order = family_of(host), list(range(lessons.pupils.count))
    random.Random(0).shuffle(order)
    index = torch.tensor(order[:4])
    with torch.no_grad():
        whole = predict(denoiser_of(host), lessons.pupils)
        part = predict(denoiser_of(host), lessons.pupils.take(index, family))
        told: Any = predict(denoiser_of(host), lessons.twins)
    assert torch.allclose(part, whole[index], atol=1e-5)
    assert torch.allclose(told, lessons.neutral, atol=1e-5)
    assert (lessons.told - lessons.neutral).abs().max() > 1e-3
    assert replace(lessons.pupils).count == lessons.told.shape[0]
