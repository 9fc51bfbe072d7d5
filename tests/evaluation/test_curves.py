"""The figure against K: its order, its measures, and rows on the embedded model with few pictures.

| law | mutation that turned it red |
|---|---|
| the pack's own set is the head of the order | sites by name |
| a random set is drawn for each picture | one for all |
| the last ones are swapped from the end | the first k again |
| F1 counts a letter as often as it stands there | sets of letters |
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from evaluation.readers.judges import Judges
from evaluation.tables.curves import CurveJob, character_f1, curve_rows, parameter_share, ranked, sizes_of, word_pairs
from palimpsest.cli.main import app
from reference.folders import MODELS
from reference.town.letters import is_held_out
from steering import Host, Operator, Pack

PACKS = MODELS.parent / "packs" / "signpost-pixart"


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    host = Host.load(MODELS / "signpost-pixart", self_test=False)
    yield host
    host.close()


def test_the_chosen_sites_come_first_and_the_others_by_their_effect(host: Host) -> None:
    for name in ("lettering", "style-marlo"):
        pack = Pack.load(PACKS / f"{name}.safetensors", host=host)
        order = ranked(pack)
        assert sorted(order) == sorted(s.name for s in host.sites)
        assert set(order[: len(pack.sites)]) == set(pack.sites)
        assert pack.scores is not None
        alone = dict(zip(pack.site_names, pack.scores.sum(1).tolist(), strict=True))
        rest = [alone[s] for s in order[len(pack.sites) :]]
        assert rest == sorted(rest, reverse=True)


def test_every_k_up_to_twice_the_chosen_is_drawn_and_some_beyond() -> None:
    assert sizes_of(3, 12) == (1, 2, 3, 4, 5, 6, 9, 12)
    assert sizes_of(7, 12) == tuple(range(1, 13))
    assert sizes_of(1, 2) == (1, 2)


def test_words_are_held_out_and_the_donor_differs_in_nothing_else() -> None:
    pairs = word_pairs(12, seed=1)
    assert pairs == word_pairs(12, seed=1) != word_pairs(12, seed=2)
    for pair in pairs:
        own, other = (text.split('"')[1] for text in (pair.prompt, pair.donor))
        assert is_held_out(own)
        assert is_held_out(other)
        assert own == pair.scene.lettering != other
        assert len(own) == len(other)
        assert pair.prompt.replace(own, other) == pair.donor


def test_characters_are_counted_as_the_paper_does() -> None:
    assert character_f1(["RIVER"], ["RIVER"]) == character_f1(["VIRER"], ["RIVER"]) == 1.0
    assert character_f1(["ABC"], ["XYZ"]) == character_f1([""], ["RIVER"]) == character_f1([], []) == 0.0
    assert character_f1(["AA"], ["AB"]) == pytest.approx(0.5)  # one A is right, in 2 read and 2 wanted
    # means first, then F1: precision (1 + 1/2) / 2, recall (1/2 + 1) / 2
    assert character_f1(["A", "AB"], ["AB", "A"]) == pytest.approx(0.75)


def test_the_word_goes_with_the_first_sites_and_stays_with_the_last(host: Host) -> None:
    pack = Pack.load(PACKS / "lettering.safetensors", host=host)
    seen: list[str] = []
    rows = curve_rows(
        host, pack, Judges.load(), CurveJob((3,), count=4, call={"num_inference_steps": 10}), progress=seen.append
    )
    assert list(rows) == ["none", "most first, 3", "least first, 3", "random, 3", "all"]
    assert [row["sites"] for row in rows.values()] == [0, 3, 3, 3, 12]
    own = {name: row["own word read"]["hits"] for name, row in rows.items()}
    assert own["none"] >= 3
    assert own["least first, 3"] >= 3
    assert own["most first, 3"] == own["all"] == 0 <= own["random, 3"]
    assert rows["most first, 3"]["donor's word read"]["hits"] >= 3 > rows["none"]["donor's word read"]["hits"] == 0
    like = {name: row["SSIM outside the sign"]["mean"] for name, row in rows.items()}
    assert like["none"] == 1.0 > like["most first, 3"] > 0.9
    assert seen


def test_a_pack_that_edits_is_refused_before_anything_is_drawn(host: Host) -> None:
    swaps = Pack.load(PACKS / "lettering.safetensors", host=host)
    one = torch.eye(1, 160)
    edits = replace(swaps, operators=dict.fromkeys(swaps.sites, (Operator(one, one, 0 * one),)), wider=swaps.sites)
    with pytest.raises(ValueError, match="must swap text, got one that edits"):
        curve_rows(host, edits, Judges.load(), CurveJob((1,), count=1))


def test_random_sites_are_other_ones_for_each_picture() -> None:
    from evaluation.tables.curves import _sets

    order = [f"s{i}" for i in range(12)]
    cases = word_pairs(6)
    drawn = list(_sets("random", order, 3, cases))
    assert len(set(drawn)) > 3
    assert all(len(set(each)) == 3 for each in drawn)
    assert drawn == list(_sets("random", order, 3, cases))
    assert set(_sets("most first", order, 2, cases)) == {("s0", "s1")}
    assert set(_sets("least first", order, 2, cases)) == {("s10", "s11")}


def test_sites_hold_a_share_of_the_parameters_that_adds_up(host: Host) -> None:
    names = [s.name for s in host.sites]
    each = [parameter_share(host, [n]) for n in names]
    assert sum(each) == pytest.approx(parameter_share(host, names))
    assert 0.0 < min(each) < sum(each) < 0.5


def test_sizes_that_the_model_does_not_have_and_other_packs_are_refused(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palimpsest.cli.evaluate.open_host", lambda model: host)
    for told, match in (
        (["--pack", str(PACKS / "lettering.safetensors"), "--sizes", "3,13"], "sizes must be 1 to 12"),
        (
            ["--pack", str(PACKS / "lettering.safetensors"), "--sizes", "three"],
            "whole numbers separated by commas, such as `1,2,4`, got `three`",
        ),
        (["--pack", str(PACKS / "none.safetensors")], "there is no pack at"),
    ):
        result = CliRunner().invoke(app, ["evaluate", "curve", *told, "--out", str(tmp_path / "x.json")])
        assert result.exit_code == 2
        assert match in " ".join(result.stderr.split())
    assert not (tmp_path / "x.json").exists()
