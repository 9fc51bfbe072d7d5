"""The whole search on tiny hosts of the real classes: shares, contrasts, and the pack that comes out.

| law | mutation that turned it red |
|---|---|
| all units are the whole effect, none is nothing | donor's text at all but the last site |
| a look whose scores cancel out is not believed | `missed` is never true; scores are divided by any sum |
| a stopped run ends as an uninterrupted one, byte for byte | cost counted of new answers only |
| places of text alone are asked | no exact effect where nothing is written |
| controls tell equal sets apart | `find_sites` is given none |
| a pack of sites that take whole donors is calibrated at strength 1 | the same strengths for all |
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from localization import (
    Aim,
    BadContrasts,
    Bench,
    Contrast,
    KeptExecutor,
    LocalExecutor,
    NotDrawn,
    NotKept,
    Search,
    Worker,
    concept_contrasts,
    find_sites,
    lettering_contrasts,
    load_contrasts,
    localize,
)
from localization.prompts import control_contrasts
from localization.search import smallest_set
from localization.search.choose import Grown
from localization.search.screen import Screen, look_again, screen, screen_of
from steering import Host, Pack
from tests.steering.today import zoo
from tests.tiny import save_pixart

LEVELS = (0.1, 0.6)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return Host.load(save_pixart(tmp_path_factory.mktemp("tiny") / "model"))


@pytest.fixture(scope="module")
def bench(host: Host) -> Bench:
    return Bench(LocalExecutor(Worker(host)), host.units, lettering_contrasts(3, seed=1), LEVELS)


def asked(host: Host, **more: Any) -> dict[str, Any]:
    """The arguments of a small search."""
    given = {
        "search": lettering_contrasts(2, seed=1),
        "check": lettering_contrasts(2, seed=2),
        "controls": control_contrasts(2, seed=3),
        "witness": seen_always,
        "how": Search(levels=LEVELS, steps=3),
    }
    return {"host": host, "aim": Aim("lettering", target=0.8), **given, **more}


def seen_always(images: Any, contrasts: Any) -> tuple[list[bool], list[bool]]:
    return [True] * len(images), [False] * len(images)


def test_all_sites_are_the_full_swap_and_no_site_is_nothing(bench: Bench) -> None:
    everything, nothing = bench.ask([bench.everything, frozenset()])
    assert everything.share() == pytest.approx(1.0, abs=1e-5)
    assert nothing.share() == pytest.approx(0.0, abs=1e-5)
    assert bool((everything.full > 1e-6).all())  # the prompts do differ for this host
    again = Worker(bench.executor.worker.host).answer(  # type: ignore[attr-defined]
        bench._cell("effects", bench.contrasts[0], ((1.0,) * len(bench.units), (0.0,) * len(bench.units)))
    )
    assert again["along"][0] == pytest.approx(everything.full[0].tolist(), rel=1e-4)
    assert again["along"][1] == pytest.approx([0.0, 0.0], abs=1e-4)


def test_a_site_alone_does_something_and_less_than_all(bench: Bench) -> None:
    shares = [s.share() for s in bench.ask(frozenset({n}) for n in sorted(bench.everything))]
    assert all(abs(s) > 1e-4 for s in shares)
    assert max(shares) < 1.0


def test_asking_again_costs_nothing_and_says_the_same(bench: Bench) -> None:
    one = frozenset({min(bench.everything)})
    (first,) = bench.ask([one])
    rows = bench.rows
    (again,) = bench.ask([one])
    assert bench.rows == rows
    assert torch.equal(first.along, again.along)


def test_the_interval_holds_the_share(bench: Bench) -> None:
    (shares,) = bench.ask([frozenset({min(bench.everything)})])
    low, high = shares.interval()
    assert low <= shares.share() <= high
    assert low < high


def test_the_cost_is_what_the_denoiser_was_asked(host: Host) -> None:
    """Counted beside the real thing: rows of all calls of the denoiser, a backward as two."""
    rows = []
    handle = host.pipe.transformer.register_forward_hook(lambda m, a, out: rows.append(len(out[0])))
    small = Bench(LocalExecutor(Worker(host)), host.units, lettering_contrasts(2, seed=5), LEVELS, 4)
    small.ask([frozenset({u}) for u in small.units])
    small.writes()
    assert small.rows == sum(rows)
    rows.clear()
    before = small.rows
    small.slopes([[0.5] * len(small.units)])
    handle.remove()
    assert small.rows - before == 3 * sum(rows)


def test_localizing_writes_a_pack_that_loads_and_says_on_what(host: Host, tmp_path: Path) -> None:
    outcome = localize(**asked(host))
    pack = Pack.load(outcome.pack.save(tmp_path / "lettering.safetensors"), host=host)
    assert pack.sites == outcome.pack.sites
    assert set(pack.sites) <= set(pack.wider) <= {s.name for s in host.sites}
    assert pack.scores is not None
    assert pack.scores.shape == (len(host.sites), 2)
    assert pack.evidence["pictures"]["none"]["own seen"] == 2
    assert pack.evidence["check"]["all"]["share"] == pytest.approx(1.0, abs=1e-4)
    cost = outcome.evidence["cost"]
    assert cost["baseline"] == len(host.sites) * 400
    assert all(v > 0 for k, v in cost["row evaluations"].items() if k not in ("finalists", "wider"))
    assert pack.plan(toward='a sign that says "HELLO"').sites


@pytest.mark.parametrize("method", ["gradient", "contribution", "patching"])
def test_a_planted_site_is_found_by_every_method(method: Any, tmp_path: Path) -> None:
    """Text is made to matter at one site: everywhere else its values are made small."""
    mine = Host.load(save_pixart(tmp_path / "model"))
    name = mine.sites[1].name
    with torch.no_grad():
        for site in mine.sites:
            module = mine.pipe.transformer.get_submodule(site.name)
            module.to_v.weight.mul_(3.0 if site.name == name else 0.02)
    found = find_sites(
        Bench(LocalExecutor(Worker(mine)), mine.units, lettering_contrasts(2, seed=1), LEVELS, 3),
        Aim("lettering"),
        Search(method=method, levels=LEVELS),
        sites=[s.name for s in mine.sites],
    )
    assert found.chosen == (name,)
    assert found.answer == "set"
    assert found.grown.share > 0.9
    assert found.carried["together"] > 0.9


def one_sequence(length: int) -> Host:
    """A tiny Z-Image: two refiners that only text passes, then text and picture in one sequence."""
    call = {k: v for k, v in zoo.CALL["z-image"].items() if k != "max_sequence_length"}
    return Host(zoo.build("z-image"), defaults=call | {"call": {"max_sequence_length": length}}, self_test=False)


def test_a_pack_of_sites_that_take_whole_donors_is_calibrated_at_strength_1() -> None:
    pack = localize(**asked(one_sequence(160)), anyway=True).pack
    assert [point.strength for point in pack.calibration] == [1.0]


@pytest.mark.parametrize("method", ["gradient", "contribution", "patching"])
def test_places_of_text_alone_are_asked_as_the_others_are(method: Any) -> None:
    """They write nothing into the picture themselves, so by contributions they have their exact effect."""
    mine = one_sequence(64)
    alone = [n for n, site in enumerate(mine.sites) if site.kind == "text"]
    contrasts = [Contrast(prompt="a red star", donor=donor, seed=1) for donor in ("pink moon", "a green ring")]
    bench = Bench(LocalExecutor(Worker(mine)), mine.units, contrasts, LEVELS, 3, twins=1)
    found = screen(bench, method)
    assert torch.isfinite(found.scores).all()
    assert (found.scores.sum(1)[alone] > 0.01).all()
    assert len(alone) == 2
    if method == "contribution":
        exact = torch.stack(
            [s.along.sum() / bench.full().sum() for s in bench.ask([frozenset({mine.units[n]}) for n in alone])]
        )
        assert torch.allclose(found.scores.sum(1)[alone] * found.total, exact.double())
        assert float(found.scores.sum(1)[2:].sum() * found.total) == pytest.approx(1)


@pytest.mark.parametrize("total", [-0.004, 0.1])
def test_a_look_that_missed_the_whole_is_not_believed(total: float, tmp_path: Path) -> None:
    """Slopes that cancel each other out once put the carrier last, and 23 of 24 sites were chosen."""
    mine = Host.load(save_pixart(tmp_path / "model"), self_test=False)
    name = mine.sites[2].name
    with torch.no_grad():
        for site in mine.sites:
            mine.pipe.transformer.get_submodule(site.name).to_v.weight.mul_(3.0 if site.name == name else 0.02)
    bench = Bench(LocalExecutor(Worker(mine)), mine.units, lettering_contrasts(2, seed=1), LEVELS, 3)
    wrong = torch.full((len(mine.units), len(LEVELS)), 9.0)
    wrong[2] = -30.0
    first = Screen("gradient", wrong, total, rows=7)
    one = len(LEVELS) * len(mine.units)
    again = look_again(bench, first, rows=one)
    assert (again.method, again.ranked(mine.units)[0], again.missed) == ("patching", name, False)
    assert again.rows == 7 + bench.rows
    assert look_again(bench, first, rows=one - 1) is first  # nothing is left to pay with
    assert look_again(bench, good := Screen("gradient", wrong, 0.9, rows=7), rows=1000) is good


@pytest.mark.parametrize("method", ["contribution", "patching"])
def test_only_slopes_must_add_up(method: Any, bench: Bench) -> None:
    """Contributions have no unit, and sites that back each other up do little alone: that is no miss."""
    small = screen_of(method, torch.full((len(bench.units), 2), 1e-4), rows=7)
    assert look_again(bench, small, rows=1000) is small


class Backed(Bench):
    """A bench of sites that back each other up: alone each does a tenth of what it really does."""

    def alone(self, count: int) -> torch.Tensor:
        return super().alone(count) / 10


@pytest.mark.parametrize(("total", "method"), [(0.2, "gradient"), (-0.2, "patching")])
def test_a_second_look_that_adds_up_to_even_less_does_not_replace_the_first_but_is_paid_for(
    total: float, method: str, host: Host
) -> None:
    backed = Backed(LocalExecutor(Worker(host)), host.units, lettering_contrasts(2, seed=1), LEVELS, 3)
    first = Screen("gradient", torch.ones(len(host.units), 2), total, rows=7)
    assert 0 < float(backed.alone(2).sum()) < 0.2
    before = backed.rows
    again = look_again(backed, first, rows=1000)
    assert again.method == method
    assert again.rows == 7 + backed.rows - before > 7


@pytest.mark.parametrize("scale", [1.0, 0.5, -0.5])
def test_scores_that_cancel_out_keep_their_order(scale: float) -> None:
    raw = torch.tensor([0.5, -0.9, 0.1, 0.2])[:, None] * abs(scale) + (0.0 if scale < 0 else 0.3)
    assert screen_of("gradient", raw, rows=0).ranked(("a", "b", "c", "d")) == ("a", "d", "c", "b")


@pytest.mark.parametrize(
    ("layers", "part", "seed", "method"), [(12, 15, 0, "gradient"), (24, 50, 0, "gradient"), (24, 50, 72, "patching")]
)
def test_planted_sites_are_found_for_the_share_of_the_baseline_that_is_promised(
    layers: int, part: int, seed: int, method: str, tmp_path: Path
) -> None:
    """On 24 sites for a fiftieth of asking each site alone with 20 prompts of 20 steps, on 12 for a fifteenth; also
    where slopes add up to 0.15 of the whole, so that a second look is taken."""
    mine = Host.load(save_pixart(tmp_path / "model", layers=layers, seed=seed), self_test=False)
    carriers = tuple(mine.sites[i].name for i in (3, layers // 2, layers - 2))
    with torch.no_grad():
        for site in mine.sites:
            mine.pipe.transformer.get_submodule(site.name).to_v.weight.mul_(3.0 if site.name in carriers else 0.02)
    how = Search().for_sites(layers)
    bench = Bench(LocalExecutor(Worker(mine)), mine.units, lettering_contrasts(4, seed=1), how.levels or (), how.steps)
    found = find_sites(bench, Aim("lettering"), how, sites=mine.units)
    assert found.screen.method == method
    assert set(found.chosen) <= set(carriers)
    assert found.grown.share >= 0.9
    assert sum(found.rows.values()) == bench.rows <= layers * 400 / part


def test_controls_are_asked_where_the_set_is_chosen(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    last, told = (host.sites[-1].name,), list[float]()

    def another(grown: Grown, error: Any, controls: Any, control_error: Any) -> Grown:
        told.extend([controls([frozenset(last)])[0], control_error(frozenset(last))])
        return replace(grown, sites=last)

    monkeypatch.setattr(smallest_set, "most_specific", another)
    outcome = localize(**asked(host))
    assert outcome.evidence["units"] == list(last)
    share, error = told
    assert outcome.evidence["controls"]["chosen"] == pytest.approx(share, abs=1e-4)
    assert 0.0 < error != share


def test_sites_that_are_given_are_measured_like_those_that_are_found(host: Host) -> None:
    given = [host.sites[2].name, host.sites[0].name]
    outcome = localize(**asked(host), given=given)
    assert outcome.pack.sites == (host.sites[0].name, host.sites[2].name)
    assert outcome.pack.choice is not None
    assert outcome.pack.choice.share == pytest.approx(outcome.evidence["check"]["chosen"]["share"], abs=1e-4)


def test_the_budget_is_kept(host: Host) -> None:
    free = find_sites(_bench(host), Aim("lettering"), Search(), sites=host.units)
    bound = free.rows["screening"] + 10
    tight = find_sites(_bench(host), Aim("lettering"), Search(budget=bound), sites=host.units)
    assert sum(tight.rows.values()) <= bound < sum(free.rows.values())
    assert free.grown.finished
    assert not tight.grown.finished


def _bench(host: Host) -> Bench:
    return Bench(LocalExecutor(Worker(host)), host.units, lettering_contrasts(2, seed=1), LEVELS, 3)


def test_a_run_that_was_stopped_ends_as_one_that_was_not_byte_for_byte(host: Host, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    class Tired(LocalExecutor):
        """Gives up after some cells, as a killed process does."""

        left = 7

        def answers(self, cells: Any) -> Any:
            for pair in super().answers(cells):
                if self.left == 0:
                    raise Stopped
                self.left -= 1
                yield pair

    worker = Worker(host, seen_always)
    with pytest.raises(Stopped):
        localize(**asked(host), executor=KeptExecutor(Tired(worker), tmp_path / "state"))
    kept = sorted((tmp_path / "state").rglob("*.json"))
    assert len(kept) == 7
    kept[0].write_text("{", "utf-8")  # half a file, from a machine that lost its power: asked for again
    again = KeptExecutor(LocalExecutor(Worker(host, seen_always)), tmp_path / "state")
    resumed = localize(**asked(host), executor=again)
    assert again.found == 6
    whole = localize(**asked(host))
    a, b = (o.pack.save(tmp_path / f"{n}.safetensors").read_bytes() for n, o in (("a", resumed), ("b", whole)))
    assert a == b
    assert resumed.strips == whole.strips


def test_a_full_disk_is_said_and_nothing_is_lost(tmp_path: Path) -> None:
    """A process that may write no byte more: the kernel refuses, as it does on a full disk."""
    code = f"""
import resource, signal
from pathlib import Path
from localization import Cell, Contrast, KeptExecutor, NotKept
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
class Inner:
    digest = "x"
    def answers(self, cells):
        for n, cell in enumerate(cells):
            if n == 1:
                resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
            yield n, {{"rows": n}}
cells = [Cell("ends", (Contrast("a", "b", n),)) for n in range(3)]
try:
    list(KeptExecutor(Inner(), Path({str(tmp_path)!r})).answers(cells))
except NotKept as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=os.getcwd())
    assert "run the same command again" in done.stdout, done.stderr[-800:]
    assert [json.loads(f.read_text())["rows"] for f in tmp_path.rglob("*.json")] == [0]
    assert not list(tmp_path.rglob("*.new"))


def test_what_cannot_be_kept_is_no_error_of_ours(host: Host, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file stands where the folder should be")
    with pytest.raises(NotKept, match="make room"):
        localize(**asked(host), executor=KeptExecutor(LocalExecutor(Worker(host, seen_always)), tmp_path / "state"))


def test_prompts_to_check_must_not_have_been_searched(host: Host) -> None:
    pairs = lettering_contrasts(2, seed=1)
    with pytest.raises(ValueError, match="2 in both"):
        localize(**asked(host, search=pairs, check=pairs))


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        (("a dog", "an animal"), "must name `cat`, got `a dog`"),
        (("an animal", "a cat"), "the wrong way round"),
        (("a cat", "a cat and a dog"), "must not name `cat`"),
        (("a cat", "a cat"), "must differ"),
    ],
)
def test_pairs_that_do_not_contrast_the_concept_are_refused(host: Host, pair: tuple[str, str], said: str) -> None:
    with pytest.raises(BadContrasts, match=said):
        localize(**asked(host, aim=Aim("animal/cat", phrases=("cat",)), search=[Contrast(*pair, 1)]))


def test_pairs_that_contradict_each_other_are_refused(host: Host) -> None:
    from localization import check_contrasts

    with pytest.raises(BadContrasts, match="pairs 1 and 2 contradict each other"):
        check_contrasts([Contrast("my cat", "a dog", 1), Contrast("red hat", "my cat", 1)], ())


def test_a_concept_that_pictures_do_not_show_is_not_searched_for(host: Host) -> None:
    def never(images: Any, contrasts: Any) -> tuple[list[bool], list[bool]]:
        return [False] * len(images), [False] * len(images)

    with pytest.raises(NotDrawn, match="0 of 2 plain pictures"):
        localize(**asked(host, witness=never))
    assert localize(**asked(host, witness=never), anyway=True).pack.calibration == ()


def test_prompts_that_the_model_answers_alike_leave_nothing_to_locate(host: Host) -> None:
    with pytest.raises(NotDrawn, match=r"answers prompt and donor alike.*may have cut both"):
        # upper and lower case are one text for this pipeline
        localize(**asked(host, search=[Contrast('a "WORD"', 'a "word"', 1)]), anyway=True)


def test_contrasts_differ_in_the_concept_only() -> None:
    for c in lettering_contrasts(50, seed=4):
        (a, own), (b, other) = c.prompt.split('"')[:2], c.donor.split('"')[:2]
        assert a == b
        assert own != other
        assert len(own) == len(other)
    for c in concept_contrasts("pip", "a gray circle", 50, seed=4):
        assert c.prompt.replace("pip", "a gray circle") == c.donor
    for c in control_contrasts(50, seed=4):
        assert c.prompt.split('"')[1] == c.donor.split('"')[1]


def test_prompts_from_a_file_and_its_mistakes(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"prompt": "a", "donor": "b"}\n\n{"prompt": "c", "donor": "d", "seed": 7}\n')
    assert load_contrasts(file, seed=1) == [Contrast("a", "b", 1000), Contrast("c", "d", 7)]
    for text, said in [("{", ":1: a line must be"), ('{"prompt": "a"}', "`donor`"), ("", "at least one pair")]:
        file.write_text(text)
        with pytest.raises(ValueError, match=said):
            load_contrasts(file, seed=1)


@pytest.mark.parametrize("name", ["sd3", "flux-dev", "sdxl", "sana"])
def test_any_host_can_be_searched(name: str) -> None:
    """Joint hosts with a twin; where pooled text enters, that place is a unit like the sites."""
    from tests.steering import zoo

    call = {
        k: v for k, v in zoo.CALL[name].items() if k in ("height", "width", "num_inference_steps", "guidance_scale")
    }
    more = {k: v for k, v in zoo.CALL[name].items() if k not in call}
    searched = Host(zoo.build(name), defaults=call | {"call": more}, name=name, self_test=False)
    pairs = [Contrast('sign "HI"', 'sign "NO"', 3)]
    bench = Bench(LocalExecutor(Worker(searched)), searched.units, pairs, LEVELS, twins=int(searched.joint))
    alone = bench.ask(frozenset({u}) for u in searched.units)
    assert all(abs(s.share()) > 1e-7 for s in alone)
    assert len(searched.units) == len(searched.sites) + len(searched.global_sites)
    found = find_sites(bench, Aim("lettering"), Search(), sites=[s.name for s in searched.sites])
    assert found.grown.share >= 0.9
