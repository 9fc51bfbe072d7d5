"""Packs: what was saved comes back, only for the host it was made for, and a folder with two is an error that names
both.

| law | mutation that turned it red |
|---|---|
| a pack for another host; only a published pack | `check` not called in `load` |
| two packs in one place | the first one taken |
| a pack's plan; an edit pack | `auto` is 1 instead of the pack's strength |
| a sentinel comes back | its sites as a mapping in the header, which is sorted |
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from steering.plans import Window

RED, GREEN = "a red star", "green ring, sign 42"


def make(made_on: Any, **more: Any) -> Any:
    """A pack made on a host, with everything in it that a pack can hold."""
    from steering import CalibrationPoint, Choice, Pack, Window

    names = tuple(s.name for s in made_on.sites)
    return Pack(
        **{
            "concept": "lettering",
            "host": made_on.fingerprint,
            "sites": names[1:2],
            "wider": names[:3],
            "site_names": names,
            "scores": torch.arange(8.0).reshape(4, 2),
            "bins": (Window(0, 0.5), Window(0.5, 1)),
            "choice": Choice(k=1, share=0.93, low=0.9, high=0.95),
            "strength": 0.8,
            "window": Window(0, 0.75),
            "calibration": (CalibrationPoint(0.5, 0.6, 0.1), CalibrationPoint(0.8, 0.99, 0.2)),
            "evidence": {"kind": "measured", "controls": ["colour"], "prompts": "0" * 64, "seeds": [1, 2]},
            "versions": {"palimpsest": "0.1.0"},
        }
        | more
    )


def test_a_pack_comes_back_as_it_was_saved(host: Any, tmp_path: Path) -> None:
    from steering import Pack

    pack = make(host, phrases=("pip",), neutral="a fox")
    back = Pack.load(pack.save(tmp_path / "deep" / "lettering.safetensors"), host=host)
    for name in Pack.__dataclass_fields__:
        mine, theirs = getattr(pack, name), getattr(back, name)
        assert torch.equal(mine, theirs) if name == "scores" else mine == theirs, name
    assert list((tmp_path / "deep").iterdir()) == [tmp_path / "deep" / "lettering.safetensors"]


def test_a_packs_plan_is_its_swap_at_its_sites(host: Any) -> None:
    from steering import Plan, Swap, Window

    pack = make(host)
    bound = host.fingerprint.digest
    auto = Swap(GREEN, sites=pack.sites, pooled="keep", strength=0.8, window=Window(0, 0.75))
    assert pack.plan(GREEN) == Plan(auto, made_for=bound)
    told = Swap(GREEN, sites=pack.sites, pooled="keep", strength=0.3, window=Window(0.5, 1))
    assert pack.plan(GREEN, 0.3, Window(0.5, 1)) == Plan(told, made_for=bound)
    assert pack.plan(GREEN, wider=True) == Plan(Swap(GREEN, sites=pack.wider, pooled="keep"), made_for=bound)
    out = host.generate([RED], plans=[pack.plan(GREEN)], seeds=[1])
    assert out.report[0].fired == {pack.sites[0]: 3}


def test_a_pack_without_a_neutral_phrase_needs_a_donor(host: Any) -> None:
    from steering import BadPlan, Plan, Swap, Window

    with pytest.raises(BadPlan, match="give a donor prompt as `toward`"):
        make(host).plan()
    neutral = make(host, neutral="a fox").plan()
    assert neutral == Plan(
        Swap("a fox", sites=make(host).sites, pooled="keep", strength=0.8, window=Window(0, 0.75)),
        made_for=host.fingerprint.digest,
    )
    with pytest.raises(BadPlan, match="leave `strength` and `window` out"):
        make(host).plan(GREEN, strength=0.5, wider=True)


def test_a_donor_prompt_has_the_neutral_phrase_where_the_concept_stood(host: Any) -> None:
    pack = make(host, concept="character/pip", phrases=("pip", "pip the fox"), neutral="a fox")
    assert pack.donor_for("Pip on a pink background") == "a fox on a pink background"
    assert pack.donor_for("pip the fox, a pipe and PIP") == "a fox, a pipe and a fox"
    assert pack.donor_for("a pipe") == "a fox"
    assert make(host, neutral=r"a \1 fox", phrases=("pip",)).donor_for("pip") == r"a \1 fox"
    assert make(host).donor_for("a sign") is None


def test_an_edit_pack_makes_edits(host: Any, tmp_path: Path) -> None:
    from steering import BadPlan, Edit, Operator, Pack, Plan, Window

    op = Operator(torch.randn(2, 32), torch.randn(2, 32), torch.randn(2, 32), gate="positive", where="output")
    names = [s.name for s in host.sites]
    pack = make(host, concept="animal/cat", operators=dict.fromkeys(names, (op,)), strength=2.0)
    back = Pack.load(pack.save(tmp_path / "cat.safetensors"), host=host)
    assert back.operators == pack.operators
    assert back.edits
    want = Edit(pack.sites, op, strength=2.0, window=Window(0, 0.75))
    assert back.plan() == Plan(want, made_for=host.fingerprint.digest)
    with pytest.raises(BadPlan, match="takes no donor"):
        back.plan("x")


def test_each_site_may_have_an_operator_of_its_own(host: Any, tmp_path: Path) -> None:
    from steering import BadPack, Edit, Operator, Pack

    names = [s.name for s in host.sites]
    ops = {n: (Operator(*(torch.randn(1, 32) for _ in range(3)), where="output"),) for n in names}
    pack = make(host, sites=names[:2], choice=replace(make(host).choice, k=2), operators=ops)
    back = Pack.load(pack.save(tmp_path / "own.safetensors"), host=host)
    acts = back.plan().interventions
    assert {(act.sites, act.operator) for act in acts} == {((n,), *ops[n]) for n in names[:2]}
    assert all(isinstance(act, Edit) for act in acts)
    assert back.plan(wider=True).sites == pack.wider
    with pytest.raises(BadPack, match="got none for"):
        make(host, operators={names[0]: ops[names[0]]}, sites=(names[1],))
    with pytest.raises(BadPack, match="operator for `pooled` cannot stand at site"):
        make(host, operators=ops | {names[0]: (replace(*ops[names[0]], where="pooled"),)})


def tuned(made_on: Any, **more: Any) -> Any:
    """A pack that holds an adapter of keys and values at two sites."""
    from steering import Operator

    def change(where: str, seed: int) -> Any:
        generator = torch.Generator().manual_seed(seed)
        e, d = (torch.randn(4, 32, generator=generator) for _ in range(2))
        return Operator(e, d, torch.zeros_like(e), where=where)

    names = [s.name for s in made_on.sites[:2]]
    operators = {n: (change("keys", 2 * i), change("values", 2 * i + 1)) for i, n in enumerate(names)}
    plain = {"scores": None, "choice": None, "bins": (), "calibration": (), "rows": "both"}
    evidence = {"kind": "tuned", "data": {"digest": "0" * 64, "pictures": 6}}
    sets = {"sites": names, "wider": names, "operators": operators}
    return make(made_on, **({"concept": "character/rex", "evidence": evidence} | plain | sets | more))


def test_a_tuned_pack_holds_an_adapter_and_says_what_it_was_trained_on(host: Any, tmp_path: Path) -> None:
    from steering import BadPack, Pack
    from steering.packs.pack import read_header

    pack = tuned(host)
    path = pack.save(tmp_path / "rex.safetensors")
    back = Pack.load(path, host=host)
    assert (back.kind, back.tuned, back.scores, back.choice, back.bins) == ("adapter", True, None, None, ())
    assert back.operators == pack.operators
    assert back.evidence == pack.evidence
    assert [o["where"] for o in read_header(path)["operators"]] == ["keys", "values"] * 2
    with safe_open(str(path), framework="pt") as file:
        assert sorted(file.keys()) == sorted(f"operators.{i}.{n}" for i in range(4) for n in "de")  # m is zero
    plan = back.plan()
    assert plan == pack.plan()
    assert {(act.sites, act.operator.where, act.rows) for act in plan.interventions} == {
        ((name,), where, "both") for name in pack.sites for where in ("keys", "values")
    }
    out = host.generate([RED, GREEN], plans=[plan, None], seeds=[1, 1], output_type="latent")
    assert out.report[0].fired == dict.fromkeys(pack.sites, 12)  # 3 steps of 4, both halves, keys and values
    for more, message in (
        ({"evidence": {"kind": "tuned"}}, "names the `data` that it was trained on"),
        ({"operators": {}}, r"holds an adapter, .* got one of swaps"),
        ({"bins": make(host).bins}, "only a published or tuned one may leave both out, and the bins"),
        ({"choice": make(host).choice}, "may leave both out"),
        ({"operators": {n: own[:1] * 2 for n, own in pack.operators.items()}}, "one operator a place, got `keys`, `ke"),
        ({"operators": {n: own[0] for n, own in pack.operators.items()}}, "a tuple of `Operator`, got `Operator` at"),
    ):
        with pytest.raises(BadPack, match=message):
            tuned(host, **more)
    with pytest.raises(BadPack, match="may leave both out"):
        make(host, scores=None, choice=None)


def test_a_packs_kind_is_what_its_plans_are_made_of(host: Any) -> None:
    pack = tuned(host)
    measured = make(host, sites=pack.sites[:1], wider=pack.sites, operators=pack.operators)
    assert (measured.kind, measured.tuned) == ("adapter", False)
    assert make(host).kind == "swap"
    text = {name: (replace(own[0], where="text"), own[1]) for name, own in pack.operators.items()}
    assert make(host, sites=pack.sites[:1], wider=pack.sites, operators=text).kind == "edit"


@pytest.mark.parametrize("json_", [True, False])
def test_a_tuned_pack_is_shown_with_its_kind_and_data(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, json_: bool
) -> None:
    from typer.testing import CliRunner

    from palimpsest.cli.main import app
    from steering import Host

    monkeypatch.setenv("PALIMPSEST_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PALIMPSEST_THREADS", "1")
    monkeypatch.setenv("COLUMNS", "200")
    host = Host.load(folder)
    path = tuned(host).save(tmp_path / "rex.safetensors")
    host.close()
    more = "--json" if json_ else "--full"
    done = CliRunner().invoke(app, ["pack", "show", str(path), "--model", str(folder), more])
    assert done.exit_code == 0, done.output
    for told in ("adapter", "4 of rank 4, at keys, values", "not measured: tuned", "0" * 64):
        assert told in done.stdout
    refused = CliRunner().invoke(app, ["pack", "verify", str(path), "--model", str(folder)])
    assert refused.exit_code == 2
    assert "was tuned; `pack verify` measures packs that take something out" in refused.output


def test_the_block_map_has_every_site_in_order_and_says_what_the_pack_does_there(host: Any) -> None:
    from steering import block_map

    sites = block_map(host, make(host))
    assert [s.name for s in sites] == [s.name for s in (*host.sites, *host.global_sites)]
    assert [(s.chosen, s.wider) for s in sites[:4]] == [(False, True), (True, False), (False, True), (False, False)]
    assert [s.effects for s in sites[:4]] == [(0, 1), (2, 3), (4, 5), (6, 7)]
    assert sites[3].effect == 13
    assert not any(s.chosen or s.effects for s in sites[4:])


def test_pooled_text_that_a_pack_swaps_is_on_its_block_map() -> None:
    from steering import Host, block_map
    from tests.steering import zoo

    host = Host(zoo.build("sd3"), name="pooled", self_test=False)
    names = tuple(s.name for s in host.sites)
    parts: dict[str, Any] = {"sites": names[:1], "wider": names[:1], "scores": torch.zeros(len(names), 2)}
    assert host.global_sites
    for pooled in ("keep", "donor"):
        sites = block_map(host, make(host, pooled=pooled, **parts))
        assert [s.chosen for s in sites[len(names) :]] == [pooled == "donor"] * len(host.global_sites)
    host.close()


def test_a_pack_may_say_that_no_strength_was_found(host: Any, tmp_path: Path) -> None:
    from steering import BadPlan, CalibrationPoint, Pack

    tried = CalibrationPoint(
        1.0, 0.5, 0.2, n=8, erasure_interval=(0.2, 0.8), kept=0.9, kept_n=20, kept_interval=(0.7, 1.0), moved=0.1
    )
    pack = make(host, strength=None, calibration=(tried,))
    back = Pack.load(pack.save(tmp_path / "none.safetensors"), host=host)
    assert back.strength is None
    assert back.calibration == (tried,)
    with pytest.raises(BadPlan, match="no strength of its own"):
        back.plan(GREEN)
    assert back.plan(GREEN, strength=0.5).interventions[0].strength == 0.5
    assert CalibrationPoint.from_json([0.5, 0.6, 0.1]) == CalibrationPoint(0.5, 0.6, 0.1)


def test_a_pack_for_another_host_is_refused_naming_what_differs(host: Any, tmp_path: Path, build: Any) -> None:
    from steering import Host, Pack, PackMismatch

    path = make(host).save(tmp_path / "lettering.safetensors")
    other = Host(build(seed=1), name="other", self_test=False)
    with pytest.raises(
        PackMismatch, match=r"made for another host than `other`: weights `\w{12}...` is `\w{12}...` here$"
    ):
        Pack.load(path, host=other)
    sigma = Host(build("sigma", blocks=3), name="sigma", self_test=False)
    with pytest.raises(PackMismatch, match="pipeline `PixArtAlphaPipeline` is `PixArtSigmaPipeline` here; config"):
        Pack.load(path, host=sigma)


def test_only_a_published_pack_may_leave_the_weights_open(host: Any, tmp_path: Path) -> None:
    from steering import BadPack, Pack, PackMismatch
    from steering.families.fingerprint import Likeness

    anywhere = Likeness("PixArtAlphaPipeline", "PixArtTransformer2DModel", {"num_layers": 4})
    with pytest.raises(BadPack, match="names the weights that it was made for"):
        make(host, host=anywhere)
    pack = paper(host, host=anywhere)
    back = Pack.load(pack.save(tmp_path / "a.safetensors"), host=host)
    assert (back.published, back.host, back.scores, back.choice, back.bins) == (True, anywhere, None, None, ())
    assert back.plan(GREEN).made_for is None
    other = Likeness("PixArtAlphaPipeline", "PixArtTransformer2DModel", {"num_layers": 28, "depth": 1})
    path = paper(host, host=other).save(tmp_path / "b.safetensors")
    with pytest.raises(PackMismatch, match=r"`tiny`: depth `1` is `missing` here; num_layers `28` is `4` here$"):
        Pack.load(path, host=host)


def paper(made_on: Any, **more: Any) -> Any:
    """A published pack."""
    from steering.families.fingerprint import Likeness

    published = {"kind": "published", "source": {"paper": "arXiv"}}
    nothing = {"scores": None, "bins": (), "choice": None, "calibration": ()}
    bound = Likeness("PixArtAlphaPipeline", "PixArtTransformer2DModel", {})
    return make(made_on, **{"host": bound, "evidence": published, **nothing, **more})


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"scores": torch.ones(4, 0)}, "no scores, bins, choice or calibration"),
        ({"evidence": {"kind": "published"}}, "names its `source`"),
        ({"concept": "style/*/x"}, "for example `animal/cat`"),
    ],
)
def test_a_published_pack_claims_no_more_than_a_paper_says(host: Any, more: dict[str, Any], says: str) -> None:
    from steering import BadPack, Operator

    with pytest.raises(BadPack, match=says):
        paper(host, **more)
    one = torch.ones(1, 32)
    with pytest.raises(BadPack, match="a published pack swaps only"):
        paper(host, operators={s.name: (Operator(one, one, one),) for s in host.sites})
    with pytest.raises(BadPack, match="bound to a `Likeness`"):
        paper(host, host=host.fingerprint)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"concept": "Lettering"}, "for example `animal/cat`"),
        ({"concept": "a/b/c"}, "for example `animal/cat`"),
        ({"sites": ()}, "at least one"),
        ({"wider": ("x",)}, "must be among its site_names, got `x`"),
        ({"scores": torch.ones(3, 2)}, r"scores must be \[sites, bins\] = \[4, 2\], got \[3, 2\]"),
        ({"scores": torch.full((4, 2), float("nan"))}, "finite"),
        ({"window": Window(0.5, 0.5)}, r"part of the trajectory, got \[0.5, 0.5\]"),
        ({"bins": (Window(0, 1), Window(1, 1))}, r"part of the trajectory, got \[1, 1\]"),
        ({"strength": 1.2}, r"strength must be in \(0, 1\]"),
        ({"scores": None}, "has scores and a choice"),
        ({"choice": None}, "has scores and a choice"),
        ({"concept": "style/*"}, "only a published pack may be for a category"),
    ],
)
def test_a_pack_whose_parts_do_not_fit_is_refused(host: Any, more: dict[str, Any], says: str) -> None:
    from steering import BadPack

    with pytest.raises(BadPack, match=says):
        make(host, **more)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("bins", [[0.0, 1.0]] * 1_000_000, "its header may have 4194304 bytes at most"),
        ("bins", [[0.0, 1.0]] * 1001, "may have 1000 bins at most, got 1001"),
        ("colour", "red", "it has a field `colour`"),
    ],
)
def test_a_file_with_more_in_it_than_a_pack_has_is_refused_at_once(
    host: Any, tmp_path: Path, field: str, value: Any, says: str
) -> None:
    from safetensors.torch import load_file, save_file

    from steering import BadPack, Pack
    from steering.packs.pack import read_header

    path = make(host).save(tmp_path / "x.safetensors")
    header = {**read_header(path), field: value}
    save_file(load_file(path), path, metadata={"palimpsest.pack": json.dumps(header)})
    began = time.monotonic()
    with pytest.raises(BadPack, match=says):
        Pack.load(path, host=host)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("name", ["lettering", "animal/cat", "logo/acme-cola", "weather/2-suns", "x/y"])
def test_a_concept_may_be_of_any_kind(name: str, host: Any) -> None:
    from steering import check_concept

    check_concept(name)
    assert make(host, concept=name).concept == name


def test_a_file_that_is_no_pack_is_refused(host: Any, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from steering import BadPack, Pack

    path = tmp_path / "x.safetensors"
    with pytest.raises(BadPack, match="there is no pack"):
        Pack.load(path, host=host)
    path.write_bytes(b"junk")
    with pytest.raises(BadPack, match="is not a pack"):
        Pack.load(path, host=host)
    save_file({"scores": torch.ones(1, 1)}, path)
    with pytest.raises(BadPack, match="is not a pack"):
        Pack.load(path, host=host)
    save_file({"scores": torch.ones(1, 1)}, path, metadata={"palimpsest.pack": json.dumps({"schema": "v0"})})
    with pytest.raises(BadPack, match="schema of"):
        Pack.load(path, host=host)
    header = {"schema": "palimpsest.pack/v1", "concept": "lettering"}
    save_file({"scores": torch.ones(1, 1)}, path, metadata={"palimpsest.pack": json.dumps(header)})
    with pytest.raises(BadPack, match="is not a whole pack"):
        Pack.load(path, host=host)
    with pytest.raises(BadPack, match="must end in"):
        make(host).save(tmp_path / "x.pack")


def test_the_first_folder_with_a_fitting_pack_wins(host: Any, tmp_path: Path, build: Any) -> None:
    from steering import Host, find_pack, pack_file

    near, far = tmp_path / "near", tmp_path / "far"
    other = Host(build(seed=1), name="other", self_test=False)
    make(other, neutral="other").save(near / "tiny" / pack_file("lettering"))
    make(host, neutral="far").save(far / pack_file("lettering"))
    make(host, concept="style/marlo", neutral="x").save(near / pack_file("style/marlo"))
    assert find_pack("lettering", host, [tmp_path / "missing", near, far]).neutral == "far"
    make(host, neutral="near").save(near / pack_file("lettering"))
    assert find_pack("lettering", host, [near, far]).neutral == "near"
    assert pack_file("style/marlo") == "style-marlo.safetensors"
    assert find_pack("style/marlo", host, [near]).concept == "style/marlo"


def test_two_packs_in_one_place_are_an_error_naming_both(host: Any, tmp_path: Path) -> None:
    from steering import PackError, find_pack

    make(host).save(tmp_path / "a.safetensors")
    make(host).save(tmp_path / "b" / "c.safetensors")
    with pytest.raises(PackError, match=r"two packs for `lettering`.*a\.safetensors.*c\.safetensors"):
        find_pack("lettering", host, [tmp_path])


def test_no_pack_says_where_was_searched_and_what_did_not_fit(host: Any, tmp_path: Path, build: Any) -> None:
    from steering import Host, PackNotFound, find_pack

    with pytest.raises(PackNotFound, match=r"no pack for `lettering` on host `tiny`; searched `.*`$"):
        find_pack("lettering", host, [tmp_path])
    make(Host(build(seed=1), name="other", self_test=False)).save(tmp_path / "a.safetensors")
    with pytest.raises(PackNotFound, match=r"not made for it: `.*a\.safetensors`: weights"):
        find_pack("lettering", host, [tmp_path])


def test_the_order_of_search_is_the_callers_folders_and_then_the_published(tmp_path: Path) -> None:
    from steering import pack_roots

    roots = pack_roots([tmp_path, "elsewhere"])
    assert roots[:2] == (tmp_path, Path("elsewhere"))
    assert len(roots) == 3
    assert roots[2].parts[-2:] == ("steering", "published")
    assert list(roots[2].glob("*.safetensors"))


def sentinel_of(made_on: Any, **more: Any) -> Any:
    from steering import Sentinel, Window

    names, generator = [s.name for s in made_on.sites], torch.Generator().manual_seed(0)
    return Sentinel(
        **{
            "concept": "lettering",
            "made_for": made_on.fingerprint.digest,
            "keys": torch.randn(2, 16, generator=generator).half(),
            "values": torch.randn(2, 16, generator=generator).half(),
            "text_bias": -0.5,
            "path": {n: torch.randn(32, generator=generator).half() for n in names[2:0:-1]},
            "path_bias": 0.25,
            "window": Window(0, 0.2),
            "evidence": {"auroc": {"text": 0.98, "path": 0.99}, "window needed": 0.2},
        }
        | more
    )


def test_a_sentinel_comes_back_with_its_pack_and_reads_the_same(host: Any, tmp_path: Path) -> None:
    from steering import Pack

    plain = make(host).save(tmp_path / "plain.safetensors")
    assert Pack.load(plain, host=host).sentinel is None
    pack = make(host, sentinel=sentinel_of(host))
    file = pack.save(tmp_path / "lettering.safetensors")
    back = Pack.load(file, host=host)
    assert back.sentinel is not None
    mine, theirs = pack.sentinel, back.sentinel
    for name in ("concept", "made_for", "text_bias", "path_bias", "window", "evidence", "sites"):
        assert getattr(mine, name) == getattr(theirs, name), name
    run = {"plans": [None], "seeds": [1], "output_type": "latent"}
    one, other = (host.generate([RED], sentinels=[s], **run).report[0].sentinel for s in (mine, theirs))
    assert one == other
    assert file.stat().st_size - plain.stat().st_size < 2048


def test_a_sentinel_that_does_not_fit_its_pack_is_refused(host: Any, tmp_path: Path) -> None:
    from steering import BadPack, Pack

    with pytest.raises(BadPack, match="must be of the pack's concept `lettering`, got `animal/cat`"):
        make(host, sentinel=sentinel_of(host, concept="animal/cat"))
    with pytest.raises(BadPack, match="made for the pack's own host"):
        make(host, sentinel=sentinel_of(host, made_for="0" * 64))
    with pytest.raises(BadPack, match="sites of its site_names, got `elsewhere`"):
        make(host, sentinel=sentinel_of(host, path={"elsewhere": torch.ones(32)}))
    from safetensors import safe_open
    from safetensors.torch import save_file

    file = make(host, sentinel=sentinel_of(host)).save(tmp_path / "lettering.safetensors")
    with safe_open(str(file), framework="pt") as held:
        tensors, metadata = {n: held.get_tensor(n) for n in held.keys()}, held.metadata()  # noqa: SIM118
    whole = {n: t for n, t in tensors.items() if n != "sentinel.values"}
    nan = torch.full((2, 16), torch.nan)
    for spoilt in (tensors | {"sentinel.path": torch.ones(63)}, tensors | {"sentinel.keys": nan}, whole):
        save_file(spoilt, file, metadata=metadata)
        with pytest.raises(BadPack, match="is not a whole pack"):
            Pack.load(file, host=host)


def test_a_pack_with_a_sentinel_is_for_its_own_host_only(host: Any, build: Any, tmp_path: Path) -> None:
    from steering import Host, Pack, PackMismatch

    file = make(host, sentinel=sentinel_of(host)).save(tmp_path / "lettering.safetensors")
    other = Host(build(seed=9), defaults=host.defaults, name="other", self_test=False)
    with pytest.raises(PackMismatch, match="weights"):
        Pack.load(file, host=other)
