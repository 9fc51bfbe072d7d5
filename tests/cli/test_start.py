"""What `palimpsest serve` says once it serves: 80 columns, one line a concept.

| the law that goes red | when this is broken |
|---|---|
| nothing is wider than 80 columns | the table takes no `width` |
| every concept has one line | rows are not joined by concept |
| `--verbose` has every rule and reason | it prints the short table |
"""

from __future__ import annotations

from typing import Any

import pytest

from palimpsest.cli.operate.start import concept_rows, tell_start
from service.rules.support import RuleRow


def rules(count: int = 6) -> list[dict[str, Any]]:
    """Rows as a worker publishes them: lettering by several rules, of which one may not use the pack."""
    why = "no pack of `style/marlo` fits: " + "; ".join(
        f"`/a/long/folder/of/packs/{n}` is for other weights" for n in "abcd"
    )
    some = [
        RuleRow(
            f"rendered-text-{n}", "rendered-text", "enforce", "every-picture", "lettering", "3 of 12 sites", "measured"
        )
        for n in range(count)
    ]
    other = RuleRow("toxic-lettering", "house", "enforce", "every-picture", "lettering", "3 of 12 sites", "published")
    lost = RuleRow("no-marlo", "styles", "enforce", "every-picture", "style/marlo", unfit="swap-prompt", why_unfit=why)
    unused = RuleRow(
        "odd", "house", "enforce", "every-picture", "lettering", "3 of 12 sites", "published", "block", "why"
    )
    return [
        row.to_dict() for row in (*some, other, lost, unused, RuleRow("never", "floor", "enforce", "matched-prompts"))
    ]


def note(rows: list[dict[str, Any]]) -> dict[str, Any]:
    host = "StableDiffusionXLPipeline, bfloat16 on cuda:0, int8 in 87% of its weights, compile"
    policy = {"digest": "sha256:" + "0" * 64, "floor": "added"}
    adapters = [{"adapter": "a" * 20, "kind": "LoRA file", "scale": 1.0, "sha256": "0" * 12}]
    return {"host": host, "policy": policy, "rules": rows, "adapters": adapters}


def test_each_concept_has_one_line_that_says_how_it_is_steered() -> None:
    assert concept_rows(rules()) == [
        {
            "concept": "lettering",
            "rules": 8,
            "steered by": "3 of 12 sites, measured (6); 3 of 12 sites, published (1); pack may not be used: block (1)",
        },
        {"concept": "style/marlo", "rules": 1, "steered by": "no pack: swap-prompt"},
    ]


def test_the_start_fits_into_eighty_columns_and_verbose_has_the_reasons(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    tell_start("signpost-pixart", "http://127.0.0.1:3000", note(rules()), verbose=False)
    short = capsys.readouterr()
    lines = (short.out + short.err).splitlines()
    assert max(map(len, lines)) <= 80, lines
    assert sum("style/marlo" in line for line in lines) == 1
    assert "/a/long/folder" not in short.out
    assert "1 more rule steers nothing" in short.err
    tell_start("signpost-pixart", "http://127.0.0.1:3000", note(rules()), verbose=True)
    long = capsys.readouterr().out
    assert "never" in long
    assert "/a/long/folder" in long.replace("\n", "").replace("│", "").replace(" ", "")
