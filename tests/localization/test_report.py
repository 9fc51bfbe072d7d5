"""The report page: it holds what the outcome holds, loads nothing, and escapes what it is given."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

from localization import NotKept
from localization.report import page_of, write_report
from localization.run import Outcome
from steering import CalibrationPoint, Choice, Fingerprint, Pack, Window

NASTY = '<script>alert("x")</script>'


def asked(sites: list[str], left: int, others: int | None) -> dict[str, Any]:
    left_over = {"left when these are swapped": left, "left when all others are swapped": others}
    return {"sites": sites, "shown plainly": 11, **left_over, "enough": others is not None}


def outcome(answer: Any = "set") -> Outcome:
    names = tuple(f"blocks.{i}" for i in range(4))
    row = {"share": 0.93, "interval": [0.9, 0.96], "k": 2}
    seen = {"own seen": 1, "donor seen": 10, "n": 12, "drift": 0.0123}
    evidence = {
        "kind": "measured",
        "method": "gradient",
        "contrasts": {"search": 4, "check": 12, "controls": 4, "seeds": [1, 2], "digest": "d" * 64},
        "levels": [0.2, 0.6],
        "scores": {n: [0.1 * i, -0.02] for i, n in enumerate(names)},
        "path": [{"k": 1, "share": 0.6, "sites": [names[0]]}, {"k": 2, "share": 0.93, "sites": list(names[:2])}],
        "answer": answer,
        "units": list(names[:2]),
        "alternatives": [[names[0]], [names[1]]],
        "carried": {"together": 0.97},
        "finished": True,
        "check": {"chosen": row, "all": row | {"share": 1.0, "k": 4}},
        "controls": {"chosen": 0.2, "all": 1.0},
        "pictures": {"none": seen, "chosen": seen, "all": seen},
        "finalists": [asked(list(names[:2]), 0, 10), asked([names[0]], 1, None)],
        "windows": {"0 to 1": {"erasure": 0.9, **seen}},
        "smallest window": [0.0, 1.0],
        "cost": {
            "row evaluations": {"screening": 100, "choice": 50},
            "baseline": 1600,
            "screening and choice, of the baseline": 0.09,
        },
    }
    pack = Pack(
        concept="lettering",
        host=Fingerprint("Pipe", "Denoiser", "config", "weights"),
        sites=names[:2],
        wider=names[:3],
        site_names=names,
        scores=torch.zeros(4, 2),
        bins=(Window(0, 0.4), Window(0.4, 1)),
        choice=Choice(2, 0.93, 0.9, 0.96),
        calibration=(CalibrationPoint(1.0, 0.9, 0.01),),
        evidence=evidence,
    )
    strip = {"prompt": NASTY, "plain": "AAAA", "steered": "BBBB", "everywhere": "CCCC"}
    return Outcome(pack, answer, evidence, (strip,))


class Seen(HTMLParser):
    """Notes every attribute that could make a browser fetch, and every tag."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.sources += [v for k, v in attrs if k in ("src", "href", "action", "srcset", "data") and v]


def test_a_donor_that_nobody_looked_for_is_not_counted_as_unseen() -> None:
    looked, blind = outcome(), outcome()
    for row in (*blind.evidence["pictures"].values(), *blind.evidence["windows"].values()):
        row["donor seen"] = None
    assert page_of(looked, model="m").count("10 of 12") == 4
    page = page_of(blind, model="m")
    assert "None of 12" not in page
    assert page.count("of 12</td>") == 4  # only what was looked for
    assert ">donor seen</a></th>" in page_of(looked, model="m")
    assert ">donor seen</a></th>" not in page, "no empty column"


def test_without_pictures_there_are_no_columns_for_them() -> None:
    blind = outcome()
    del blind.evidence["pictures"]
    head = re.search(r"Beside what it must beat</h2>.*?</thead>", page_of(blind, model="m"), re.DOTALL)
    assert head
    assert "on controls" in head[0]
    assert not any(name in head[0] for name in ("own seen", "donor seen", "drift"))


def test_every_word_that_is_linked_is_explained() -> None:
    page = page_of(outcome(), model="m")
    linked = set(re.findall(r'href="#([^"]+)"', page))
    assert {"w-share", "w-drift", "w-own", "w-controls", "w-k", "w-necessity", "w-dose", "row-1"} <= linked
    assert linked <= set(re.findall(r'id="([^"]+)"', page))


def test_the_model_is_drawn_place_by_place_in_the_order_of_the_host() -> None:
    mixed = outcome()
    mixed.evidence["scores"] = {n: mixed.evidence["scores"][n] for n in reversed(mixed.pack.site_names)}
    page = page_of(mixed, model="m")
    drawn = re.findall(r'<li class="(\w*)" title="([^"]+)"', page)
    assert drawn == [("chosen", "blocks.0"), ("chosen", "blocks.1"), ("wider", "blocks.2"), ("", "blocks.3")]


def test_every_k_is_drawn_and_the_axes_are_named() -> None:
    some = outcome()
    del some.evidence["path"][0]
    page = page_of(some, model="m")
    dots = {int(k): float(x) for x, k in re.findall(r'class="dot" cx="([\d.]+)".*?K = (\d+)', page)}
    hollow = {int(k): float(x) for x, k in re.findall(r'class="unasked" cx="([\d.]+)".*?K = (\d+)', page)}
    assert (set(dots), set(hollow)) == ({0, 2, 4}, {1, 3})
    (line,) = re.findall(r'class="k" x1="([\d.]+)"', page)
    assert float(line) == dots[2]
    named = re.findall(r"<text[^>]*>([^<]*)</text>", page)
    assert {"chosen: K = 2", "K: places swapped together", "joint share", "target 0.9"} <= set(named)


def test_a_set_below_its_target_and_a_large_one_are_said_plainly() -> None:
    page = page_of(outcome(), model="m")
    assert not any(said in page for said in ("Below the target", "No compact set", "The budget ended"))
    low = outcome("no compact set")
    low.evidence["finished"] = False
    low = replace(low, pack=replace(low.pack, choice=Choice(2, 0.84, 0.8, 0.9, target=0.9)))
    page = page_of(low, model="m")
    assert all(said in page for said in ("Below the target", "<b>No compact set</b>", "The budget ended"))


def test_finalists_are_shown_with_what_pictures_said_of_them() -> None:
    page = " ".join(re.sub(r"<[^>]+>", " ", page_of(outcome(), model="m")).split())
    assert "blocks.0 , blocks.1 0 of 11 10 of 11 yes" in page
    assert "blocks.0 1 of 11 no" in page  # the other way was not drawn


def test_a_set_that_pictures_made_smaller_is_told_beside_what_numbers_asked_for() -> None:
    cut, row = outcome(), {"share": 0.93, "interval": [0.9, 0.96], "k": 4}
    whole = page_of(cut, model="m")
    assert "ringed: the chosen K" in whole
    assert 'class="pick"' in whole
    assert "numbers asked for" not in whole
    cut.evidence["check"]["before pictures were asked"] = row
    cut.evidence["controls"]["before pictures were asked"] = 0.3
    cut.evidence["path"] = [{"k": 4, "share": 0.93, "sites": list(cut.evidence["scores"])}]
    page = page_of(cut, model="m")
    assert "The 4 that numbers asked for reach 0.930" in page
    assert "The chosen 2 were cut from such a set by pictures" in page
    assert 'class="pick"' not in page


def test_no_request_leaves_the_page() -> None:
    page = page_of(outcome(), model=NASTY)
    seen = Seen()
    seen.feed(page)
    assert seen.sources
    assert all(s.startswith(("data:", "#")) for s in seen.sources)
    assert not {"script", "link", "iframe", "object", "base"} & set(seen.tags)
    assert "default-src 'none'" in page
    assert not re.search(r"url\(|@import|https?://", page)


def test_what_is_given_is_escaped() -> None:
    assert NASTY not in page_of(outcome(), model=NASTY)


def test_both_themes_name_the_same_colours() -> None:
    page = page_of(outcome(), model="tiny")
    light, dark = re.findall(r":root \{([^}]*)\}", page)
    own = [set(re.findall(r"--\w+", block)) for block in (light, dark)]
    assert own[0] == own[1] != set()
    assert set(re.findall(r"var\((--\w+)\)", page)) <= own[0]


def test_the_page_is_the_same_for_the_same_outcome_and_holds_its_numbers() -> None:
    page = page_of(outcome(), model="tiny")
    assert page == page_of(outcome(), model="tiny")
    for said in ("0.930", "blocks.1", "1600", "10 of 12", "BBBB", "d" * 16, "2 of 4 places carry it together"):
        assert said in page
    assert page.count("<circle") == 6  # every size from 0 to 4, and the ring around the chosen one


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("no compact set", "No compact set"),
        ("pooled", "Pooled text carries it"),
        ("alternatives", "Any one of 2 places"),
    ],
)
def test_each_kind_of_answer_is_said(answer: Any, said: str) -> None:
    assert said in page_of(outcome(answer), model="tiny")


def test_a_page_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotKept, match="cannot write the report"):
        write_report(outcome(), tmp_path / "file" / "page.html", model="tiny")
    assert write_report(outcome(), tmp_path / "new" / "page.html", model="tiny").read_text("utf-8").startswith("<!doct")
