"""Exact patching on a tiny host of the real class: shares, contrasts, and the pack that comes out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from localization import Aim, Bench, Contrast, concept_contrasts, lettering_contrasts, load_contrasts, localize
from localization.prompts import control_contrasts
from steering import Host, Pack
from tests.tiny import save_pixart


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return Host.load(save_pixart(tmp_path_factory.mktemp("tiny") / "model"))


@pytest.fixture(scope="module")
def bench(host: Host) -> Bench:
    return Bench(host, lettering_contrasts(3, seed=1), (0.1, 0.6))


def test_all_sites_are_the_full_swap_and_no_site_is_nothing(bench: Bench) -> None:
    everything, nothing = bench.ask([bench.all_sites, frozenset()])
    assert everything.share() == pytest.approx(1.0, abs=1e-5)
    assert nothing.share() == pytest.approx(0.0, abs=1e-5)
    assert bool((everything.full > 1e-6).all())  # the prompts do differ for this host


def test_a_site_alone_does_something_and_less_than_all(bench: Bench) -> None:
    shares = [s.share() for s in bench.ask(frozenset({n}) for n in sorted(bench.all_sites))]
    assert all(abs(s) > 1e-4 for s in shares)
    assert max(shares) < 1.0


def test_asking_again_costs_nothing_and_says_the_same(bench: Bench) -> None:
    one = frozenset({min(bench.all_sites)})
    (first,) = bench.ask([one])
    rows = bench.rows
    (again,) = bench.ask([one])
    assert bench.rows == rows
    assert torch.equal(first.along, again.along)


def test_the_interval_holds_the_share(bench: Bench) -> None:
    (shares,) = bench.ask([frozenset({min(bench.all_sites)})])
    low, high = shares.interval()
    assert low <= shares.share() <= high
    assert low < high


def test_localizing_writes_a_pack_that_loads_and_says_on_what(host: Host, tmp_path: Path) -> None:
    outcome = localize(
        host,
        Aim("lettering", target=0.8),
        search=lettering_contrasts(2, seed=1),
        check=lettering_contrasts(2, seed=2),
        controls=control_contrasts(2, seed=3),
        witness=lambda images, contrasts: ([True] * len(images), [False] * len(images)),
    )
    pack = Pack.load(outcome.pack.save(tmp_path / "lettering.safetensors"), host=host)
    assert pack.sites == outcome.pack.sites
    assert set(pack.sites) <= set(pack.wider) <= {s.name for s in host.sites}
    assert pack.scores.shape == (len(host.sites), 3)
    assert pack.evidence["pictures"]["none"] == {"own seen": 2, "donor seen": 0, "n": 2}
    assert pack.evidence["check"]["all"]["share"] == pytest.approx(1.0, abs=1e-4)
    assert outcome.evidence["cost"]["row evaluations"]["search"] > len(host.sites) * 2 * 3
    assert pack.plan(toward='a sign that says "HELLO"').sites


def test_prompts_to_check_must_not_have_been_searched(host: Host) -> None:
    pairs = lettering_contrasts(2, seed=1)
    with pytest.raises(ValueError, match="2 in both"):
        localize(host, Aim("lettering"), search=pairs, check=pairs, controls=pairs)


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
    """Joint hosts with a twin; pooled text is kept, so all sites are all of what sites can do."""
    from tests.steering import zoo

    call = {
        k: v for k, v in zoo.CALL[name].items() if k in ("height", "width", "num_inference_steps", "guidance_scale")
    }
    more = {k: v for k, v in zoo.CALL[name].items() if k not in call}
    searched = Host(zoo.build(name), defaults=call | {"call": more}, name=name)
    bench = Bench(searched, [Contrast('a sign that says "HI"', 'a sign that says "NO"', 3)], (0.1, 0.6))
    everything, *alone = bench.ask([bench.all_sites, *(frozenset({s.name}) for s in searched.sites)])
    assert everything.share() == pytest.approx(1.0, abs=1e-4)
    assert all(abs(s.share()) > 1e-6 for s in alone)
