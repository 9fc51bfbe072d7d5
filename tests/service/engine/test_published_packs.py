"""A published pack steers only for rules that verify its concept in the picture; others are unfit, and say why.

| law | mutation that turned it red |
|---|---|
| no plan without a verify | `why_unverified` gives None always |
| the verify is of the same concept | any verify is enough |
| another rule's verify does not count | `a.rule == rule` left out of `_reads` |
| the table says so | `_supported` without `why_unverified` |
| callers learn the reason | `_public_why` without the row's own reason |
| beside a measured pack the plan stays bound | `plans[0].made_for` |
| shown without a share | `pack_show` reads `choice.share` always |
| a measured pack takes its place | `look_again` forgets what was missing only |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from policies import Decision, Loader, Replacement, Request, Span, Steer, Verify
from service.engine.planner import choose_repair
from service.rules.support import PackIndex, rule_table

PROMPT = 'a star and a sign that says "IDIOT"'
DONOR = 'a star and a sign that says "BREAD"'
WORD = Replacement(Span("prompt", 29, 34), "BREAD")


@pytest.fixture(scope="module")
def published(host: Any, packs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a published pack of lettering for the tiny host."""
    from dataclasses import replace

    from steering import Pack
    from steering.families.fingerprint import Likeness

    folder = tmp_path_factory.mktemp("published")
    replace(
        Pack.load(packs / "lettering.safetensors", host=host),
        host=Likeness("PixArtAlphaPipeline", "PixArtTransformer2DModel", {"num_layers": 4}),
        scores=None,
        bins=(),
        choice=None,
        evidence={"kind": "published", "source": {"paper": "arXiv"}},
    ).save(folder / "lettering.safetensors")
    return folder


@pytest.fixture(scope="module")
def pack(published: Path, host: Any) -> Any:
    from steering import Pack

    return Pack.load(published / "lettering.safetensors", host=host)


def steer(rule: str = "toxic", **more: Any) -> Steer:
    return Steer(rule, "lettering", "benign-word", (WORD,), **more)


def repair(pack: Any, *actions: Any) -> Any:
    decision = Decision("steer", "prompt", "sha256:0", actions=actions)
    return choose_repair(Request(PROMPT), decision, {"lettering": pack}, without_lettering=lambda text: text)


def test_a_rule_that_verifies_the_concept_steers_with_a_published_pack(pack: Any, host: Any) -> None:
    got = repair(pack, steer(), Verify("toxic", "lettering"))
    assert (got.prompt, got.unfit, got.refused) == (PROMPT, (), ())
    assert got.plan == pack.plan(DONOR)
    assert got.wider == pack.plan(DONOR, wider=True)
    host.generate([PROMPT], plans=[got.plan], seeds=[1], num_inference_steps=2)


@pytest.mark.parametrize(
    ("unfit", "refused"), [("swap-prompt", ()), ("block", ("toxic",)), ("refuse-load", ("toxic",))]
)
@pytest.mark.parametrize("verify", [(), (Verify("toxic", "animal/cat"),), (Verify("another", "lettering"),)])
def test_a_rule_that_does_not_is_unfit_and_gets_no_plan(pack: Any, unfit: Any, refused: Any, verify: Any) -> None:
    got = repair(pack, steer(unfit=unfit), *verify)
    assert (got.prompt, got.plan, got.wider) == (DONOR, None, None)
    assert (got.unfit, got.refused) == (("toxic",), refused)


def test_a_measured_pack_needs_no_verify(packs: Path, host: Any) -> None:
    from steering import Pack

    assert repair(Pack.load(packs / "lettering.safetensors", host=host), steer()).plan is not None


def test_beside_a_measured_pack_the_plan_stays_bound_to_the_model(pack: Any, packs: Path, host: Any) -> None:
    from dataclasses import replace

    from service.engine.planner import merge
    from steering import Pack

    measured = replace(Pack.load(packs / "lettering.safetensors", host=host), concept="animal/cat")
    both = merge([pack.plan(DONOR), measured.plan(DONOR)])
    assert both.made_for == host.fingerprint.digest


def unverified(policy: Path) -> str:
    """The text of the test policy without the first rule's verify action."""
    text, cut = re.subn(r"      - do: verify\n(        .*\n)+", "", policy.read_text(), count=1)
    assert cut == 1
    return text


def test_the_table_of_rules_says_why_a_published_pack_is_not_used(policy: Path, published: Path, host: Any) -> None:
    from detectors.text import sense

    shelf = PackIndex(host, [published])
    row = rule_table(Loader(sense).load(policy), shelf)[-1]
    assert (row.rule, row.pack, row.evidence, row.unfit) == ("toxic-lettering", "2 of 4 sites", "published", None)
    policy.write_text(unverified(policy))
    row = rule_table(Loader(sense).load(policy), shelf)[-1]
    assert (row.pack, row.evidence, row.unfit) == ("2 of 4 sites", "published", "swap-prompt")
    assert row.why_unfit is not None
    assert "the rule does not verify it in the picture; add `{do: verify, read: lettering, ...}`" in row.why_unfit


def test_a_measured_pack_takes_the_place_of_a_published_one(
    published: Path, packs: Path, host: Any, tmp_path: Path
) -> None:
    shelf = PackIndex(host, [tmp_path, published])
    assert shelf["lettering"].published
    (tmp_path / "lettering.safetensors").write_bytes((packs / "lettering.safetensors").read_bytes())
    assert shelf["lettering"].published
    shelf.look_again()
    assert not shelf["lettering"].published


@pytest.fixture
def start(settings: Callable[..., Any], published: Path, recorder: Any, tmp_path: Path) -> Iterator[Callable[[], Any]]:
    """Starts workers, each with an empty state folder."""
    from service.worker.runtime import Runtime

    begun: list[Runtime] = []

    def go() -> Runtime:
        state = tmp_path / f"state-{len(begun)}"
        begun.append(Runtime(settings(packs=published, audit="off", state=state), recorder))
        begun[-1].start()
        begun[-1].wait()
        return begun[-1]

    yield go
    for runtime in begun:
        runtime.stop()


def test_callers_and_the_start_learn_why(start: Callable[[], Any], policy: Path, published: Path) -> None:
    policy.write_text(unverified(policy))
    told = start().policies()
    row = next(r for r in told["workers"][0]["rules"] if r["rule"] == "toxic-lettering")
    assert "does not verify it in the picture" in row["why_unfit"]
    assert str(published) not in str(told)
    policy.write_text(policy.read_text().replace("unfit: swap-prompt", "unfit: refuse-load"))
    with pytest.raises(ValueError, match=r"refuses to load: no pack of `lettering` that it may use: .* published"):
        start()


@pytest.mark.parametrize("how", [("--json",), ()])
def test_a_published_pack_can_be_shown_and_claims_no_share(
    published: Path, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: tuple[str, ...]
) -> None:
    from typer.testing import CliRunner

    from palimpsest.cli.main import app

    monkeypatch.setenv("PALIMPSEST_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PALIMPSEST_THREADS", "1")
    path = str(published / "lettering.safetensors")
    done = CliRunner().invoke(app, ["pack", "show", path, "--model", str(model), *how])
    assert done.exit_code == 0
    assert "not measured: published" in done.stdout
